"""Opens ``objects.parquet``, where it lies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from ...base.errors import OutputError
from ...base.location import Location
from ...base.store_errors import explained, one_line
from ...base.stores import file_system

_REMEDY: Final = "find the objects again, with --overwrite"


@contextmanager
def opened_table(table: Location) -> Iterator[Any]:
    """Open a Parquet file; of a remote one, only the columns that are used are fetched.

    Raises OutputError where it cannot be opened, or read while it is open.
    """
    with explained(OutputError, table), _known(table):
        if table.is_local:
            with pq.ParquetFile(table.path) as file:
                yield file
            return
        system, path = file_system(table)
        with system.open(path, "rb") as stream, pq.ParquetFile(stream, pre_buffer=True) as file:
            yield file


@contextmanager
def _known(table: Location) -> Iterator[None]:
    """Raise OutputError with the remedy for a table that is missing or damaged."""
    try:
        yield
    except FileNotFoundError as error:
        raise OutputError(f"{table} is missing: {_REMEDY}") from error
    except pa.ArrowInvalid as error:
        raise OutputError(f"{table} is damaged ({one_line(str(error))}): {_REMEDY}") from error


def exists(table: Location) -> bool:
    """Return whether there is such a file. Raises OutputError where that cannot be found out."""
    if table.is_local:
        return table.path.is_file()
    with explained(OutputError, table):
        system, path = file_system(table)
        return bool(system.exists(path))
