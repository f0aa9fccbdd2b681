"""What a block knows of its fragments that filters and names need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...base.compiled import compiled
from ...base.geometry import Box, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Fragments, or objects: names, numbers of voxels, and whether they touch the volume's edge.

    A name is the place of the first voxel in the volume, counted from 1 in raster order of z, y, x.
    Joined fragments take the lowest of their names, so that it names their first voxel too. The
    name 0 means background.
    """

    names: NDArray[np.uint64]
    voxels: NDArray[np.int64]
    at_edge: NDArray[np.bool_]
    touched_first: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    touched_last: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    """Of background (see holes.py), the lowest and the highest name of an object that it touches;
    ``NOTHING`` and 0 where it touches none. Empty for objects."""

    def __len__(self) -> int:
        return len(self.names)

    def taken(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Records:
        """Return some rows, in the order of ``rows``."""
        return self._each(lambda column: column[rows])

    def where(self, rows: NDArray[np.bool_], other: Records) -> Records:
        """Return the rows of ``other`` where ``rows`` is true, else those of this."""
        columns = {name: np.where(rows, getattr(other, name), column)
                   for name, column in self._columns()}  # fmt: skip
        return Records(**columns)

    def joined(self, root: NDArray[np.int64]) -> Records:
        """Return records summed over the nodes of each root; rows of other nodes mean nothing."""
        columns = {}
        for name, column in self._columns():
            columns[name] = np.zeros_like(column) if name in _ADDED else column.copy()
            _REDUCTIONS[name].at(columns[name], root, column)
        return Records(**columns)

    def _each(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Records:
        return Records(**{name: change(column) for name, column in self._columns()})

    def _columns(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield the columns that exist."""
        for name in _REDUCTIONS:
            column: NDArray[Any] = getattr(self, name)
            if len(column) == len(self):
                yield name, column


_REDUCTIONS: Final[Mapping[str, np.ufunc]] = {
    "names": np.minimum,
    "voxels": np.add,
    "at_edge": np.logical_or,
    "touched_first": np.minimum,
    "touched_last": np.maximum,
}
_ADDED: Final = ("voxels",)


def measure(
    labels: NDArray[np.int32], count: int, *, core: Box, shape: Shape, per_slice: bool
) -> Records:
    """Return the records of labels 1 … count of a block; core: its box in the volume of ``shape``.

    per_slice: the first and the last z do not count as edge, as in a volume with one z.
    """
    is_flat = per_slice or shape[0] == 1
    names, voxels, at_edge = _measure(
        labels, count, np.array(core.start, np.int64), np.array(shape, np.int64), is_flat
    )
    return Records(names=names.astype(np.uint64), voxels=voxels, at_edge=at_edge)


@compiled
def _measure(labels, count, start, shape, is_flat):  # type: ignore[no-untyped-def]
    names = np.zeros(count, np.int64)
    voxels = np.zeros(count, np.int64)
    at_edge = np.zeros(count, np.bool_)
    for z in range(labels.shape[0]):
        gz = z + start[0]
        edge_z = not is_flat and (gz == 0 or gz == shape[0] - 1)
        for y in range(labels.shape[1]):
            gy = y + start[1]
            edge_y = edge_z or gy == 0 or gy == shape[1] - 1
            place = (gz * shape[1] + gy) * shape[2] + start[2] + 1
            for x in range(labels.shape[2]):
                label = labels[z, y, x]
                if label == 0:
                    continue
                if voxels[label - 1] == 0:
                    names[label - 1] = place + x
                voxels[label - 1] += 1
                gx = x + start[2]
                if edge_y or gx == 0 or gx == shape[2] - 1:
                    at_edge[label - 1] = True
    return names, voxels, at_edge
