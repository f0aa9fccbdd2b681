"""What a table of objects adds up to, read row group by row group: memory is that of one group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...base.location import Location
from .size_counts import SizeCounts
from .table_file import opened_table

LISTED: Final = 5
"""Objects that are listed as the largest, and as the smallest."""
_COLUMNS: Final = ("id", "voxels", "centroid_z", "centroid_y", "centroid_x", "touches_edge")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedObject:
    """An object, and where it is: the mean z, y, x of its voxels in the level."""

    id: int
    voxels: int
    centroid: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSummary:
    """Figures of all objects of a table."""

    objects: int
    voxels: int
    """In objects."""
    at_edge: int
    """Objects that touch the volume's edge."""
    sizes: SizeCounts
    largest: tuple[ListedObject, ...]
    """The largest first, of equal ones that with the lowest id."""
    smallest: tuple[ListedObject, ...]
    """The smallest first."""


def summarise_table(table: Location) -> TableSummary:
    """Read ``objects.parquet`` once. Raises OutputError where it cannot be read."""
    with opened_table(table) as file:
        voxels = at_edge = 0
        sizes = SizeCounts.of(np.empty(0, np.int64))
        largest = smallest = file.schema_arrow.empty_table().select(_COLUMNS)
        for number in range(file.num_row_groups):
            rows = file.read_row_group(number, columns=list(_COLUMNS))
            counts = _values(rows, "voxels")
            voxels += int(counts.sum())
            at_edge += int(_values(rows, "touches_edge").sum())
            sizes += SizeCounts.of(counts)
            largest = _first(pa.concat_tables([largest, rows]), order=-1)
            smallest = _first(pa.concat_tables([smallest, rows]), order=1)
        return TableSummary(
            objects=file.metadata.num_rows, voxels=voxels, at_edge=at_edge, sizes=sizes,
            largest=_listed(largest), smallest=_listed(smallest),
        )  # fmt: skip


def _first(rows: pa.Table, *, order: int) -> pa.Table:
    """Return the few rows that come first by size; order: -1 for the largest first."""
    by_size = np.lexsort((_values(rows, "id"), order * _values(rows, "voxels")))
    return rows.take(by_size[:LISTED])


def _listed(rows: pa.Table) -> tuple[ListedObject, ...]:
    return tuple(
        ListedObject(
            id=row["id"],
            voxels=row["voxels"],
            centroid=(row["centroid_z"], row["centroid_y"], row["centroid_x"]),
        )
        for row in rows.to_pylist()
    )


def _values(rows: pa.Table, column: str) -> NDArray[Any]:
    values: NDArray[Any] = rows.column(column).to_numpy()
    return values
