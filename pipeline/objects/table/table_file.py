"""Opens ``objects.parquet``, where it lies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow.parquet as pq

from ...base.errors import OutputError
from ...base.location import Location
from ...base.store_errors import explained
from ...base.stores import file_system


@contextmanager
def opened_table(table: Location) -> Iterator[Any]:
    """Open a Parquet file; of a remote one, only the columns that are used are fetched.

    Raises OutputError where it cannot be opened, or read while it is open.
    """
    with explained(OutputError, table):
        if table.is_local:
            with pq.ParquetFile(table.path) as file:
                yield file
            return
        system, path = file_system(table)
        with system.open(path, "rb") as stream, pq.ParquetFile(stream, pre_buffer=True) as file:
            yield file


def exists(table: Location) -> bool:
    """Return whether there is such a file. Raises OutputError where that cannot be found out."""
    if table.is_local:
        return table.path.is_file()
    with explained(OutputError, table):
        system, path = file_system(table)
        return bool(system.exists(path))
