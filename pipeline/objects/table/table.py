"""The table of objects as people read it, and its files ``objects.parquet`` and ``objects.csv``."""

from __future__ import annotations

import csv
import io
import json
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from ...base.errors import OutputError
from ...base.location import Location
from ...base.store_errors import explained
from ...base.stores import file_system, list_names
from ...output.atomic_file import AtomicFile
from .csv_digits import rounded
from .rows import ObjectRows
from .table_columns import columns
from .table_measures import Measures
from .table_spec import TableSpec

TABLES: Final = "tables"
"""Folder of an output."""
PARQUET: Final = "objects.parquet"
CSV: Final = "objects.csv"
ROWS_PER_GROUP: Final = 2**16
"""About 20 MB of columns in memory; a reader skips groups by the range of ids of each."""


def finished(rows: ObjectRows, spec: TableSpec) -> pa.Table:
    """Return the table of some objects. Equal rows give an equal table, bit for bit."""
    measures = Measures(rows, spec)
    arrays = [pa.array(column.values(measures), column.kind) for column in columns(spec)]
    return pa.Table.from_arrays(arrays, schema=table_schema(spec))


def table_schema(spec: TableSpec) -> pa.Schema:
    """Return the columns' names and types; each field's metadata states unit and description."""
    stated = {
        "is_flat": spec.is_flat,
        "voxel_size_um": spec.voxel_size_um,
        "origin_um": spec.origin_um,
        "channel_names": spec.channel_names,
    }
    fields = [column.field for column in columns(spec)]
    return pa.schema(fields, metadata={"overtile.objects": json.dumps(stated)})


class TableWriter:
    """Streams rows in ascending order of ids into ``objects.parquet`` and ``objects.csv``.

    ::

        with TableWriter(output / "tables", spec, with_csv=True) as writer:
            for rows in parts:
                writer.add(rows)

    The files appear whole when the context is left without an error, Parquet last, and replace
    older ones; otherwise nothing changes. They hold the same bytes for the same rows, however these
    were cut into parts: row groups have a fixed number of rows. Memory is that of one part and one
    row group. Raises OutputError.
    """

    def __init__(self, folder: Location, spec: TableSpec, *, with_csv: bool = False) -> None:
        self._spec = spec
        self._waiting = [table_schema(spec).empty_table()]
        self._last_id = -1
        self.objects = 0
        """Rows added so far."""
        with ExitStack() as opened:
            self._file = opened.enter_context(AtomicFile(folder / PARQUET))
            self._csv = opened.enter_context(AtomicFile(folder / CSV)) if with_csv else None
            self._opened = opened.pop_all()
        self._buffer = io.BytesIO()
        self._parquet = pq.ParquetWriter(
            self._buffer, table_schema(spec), compression="zstd", use_dictionary=False
        )
        if self._csv is not None:
            self._csv.write(_csv_header(table_schema(spec)))

    def add(self, rows: ObjectRows) -> None:
        """Append the rows of some objects, whose ids are above all that were added before."""
        if not len(rows):
            return
        assert int(rows.ids[0]) > self._last_id, f"id {rows.ids[0]} after {self._last_id}"
        self._last_id = int(rows.ids[-1])
        self.objects += len(rows)
        self._waiting.append(finished(rows, self._spec))
        if sum(len(table) for table in self._waiting) >= ROWS_PER_GROUP:
            self._write_waiting(is_last=False)

    def _write_waiting(self, *, is_last: bool) -> None:
        """Write all full groups, and the rest as well if it is the last."""
        table = pa.concat_tables(self._waiting).combine_chunks()
        stop = len(table) if is_last else len(table) - len(table) % ROWS_PER_GROUP
        for start in range(0, stop, ROWS_PER_GROUP):
            self._write(table.slice(start, min(ROWS_PER_GROUP, stop - start)))
        self._waiting = [table.slice(stop)]

    def _write(self, group: pa.Table) -> None:
        self._parquet.write_table(group, row_group_size=ROWS_PER_GROUP)
        self._flush()
        if self._csv is not None:
            self._csv.write(_csv_lines(group))

    def _flush(self) -> None:
        """Move the bytes that Parquet has written to the file."""
        self._file.write(self._buffer.getvalue())
        self._buffer.seek(0)
        self._buffer.truncate()

    def _finish(self) -> None:
        self._write_waiting(is_last=True)
        self._parquet.close()
        self._flush()
        if self._csv is not None:
            self._csv.commit()
        self._file.commit()

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._opened:  # discards the files that are not committed
            if kind is None:
                self._finish()


def _csv_header(schema: pa.Schema) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(schema.names)
    return line.getvalue().encode()


def write_missing_csv(folder: Location) -> None:
    """Write the CSV of an existing table unless it exists, row group by row group."""
    if CSV in (list_names(folder) or ()):
        return
    with explained(OutputError, folder / PARQUET), _opened(folder / PARQUET) as file:
        stored = pq.ParquetFile(file)
        with AtomicFile(folder / CSV) as target:
            target.write(_csv_header(stored.schema_arrow))
            for number in range(stored.num_row_groups):
                target.write(_csv_lines(stored.read_row_group(number)))
            target.commit()


def _opened(location: Location) -> Any:
    system, path = file_system(location)
    return system.open(path, "rb")


def _csv_lines(group: pa.Table) -> memoryview:
    lines = pa.BufferOutputStream()
    pa_csv.write_csv(rounded(group), lines, pa_csv.WriteOptions(include_header=False))
    return memoryview(lines.getvalue())
