"""Final ids: 1, 2 … in the order of the objects' first voxels, whatever the blocks.

An object belongs to the block of its first voxel. All blocks in a layer along z together list
their objects in order; with the numbers of objects of the layers before, this gives the ids. Lists
are stored in parts, of which a block reads those that hold its names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...base.geometry import Box, Shape
from ..fragments.measures import Records
from .intermediates import Intermediates

INDEX: Final = "index"
ALL: Final = "all"
NAMES_PER_PART: Final = 2**20
"""Names in a part: 8 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Names of objects, ascending."""

    names: NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNames:
    """How many objects begin in a layer of blocks, and the first name of each stored part."""

    layer: int
    count: int
    firsts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdIndex:
    """Where the ids of names are found: one entry per stored part, in the order of the names."""

    parts: tuple[str, ...]
    firsts: NDArray[np.uint64]
    ids_before: NDArray[np.uint64]
    count: int

    @property
    def dtype(self) -> str:
        """The dtype of the ids."""
        return dtype_of_ids(self.count)

    @classmethod
    def of(cls, layers: Sequence[LayerNames]) -> IdIndex:
        """Return the index over all layers, which are given from the first."""
        parts, firsts, before, total = [], [], [], 0
        for layer in layers:
            for number, first in enumerate(layer.firsts):
                parts.append(part_name(layer.layer, number))
                firsts.append(first)
                before.append(total + number * NAMES_PER_PART)
            total += layer.count
        return cls(
            parts=tuple(parts),
            firsts=np.array(firsts, np.uint64),
            ids_before=np.array(before, np.uint64),
            count=total,
        )

    @classmethod
    def stored(cls, files: Intermediates) -> IdIndex | None:
        """Return the index that :meth:`store` wrote, if it did.

        It is asked for by name: a listing may fail, or be that of a moment ago.
        """
        if files.find(INDEX, ALL) is None:
            return None
        found = files.get(INDEX, ALL, cls)
        return replace(found, parts=tuple(map(str, found.parts)), count=int(found.count))

    def store(self, files: Intermediates) -> None:
        """Write the index: objects are merged and numbered."""
        files.put(INDEX, ALL, self)

    def ids(
        self, names: NDArray[np.uint64], read: Callable[[str], NDArray[np.uint64]]
    ) -> NDArray[np.uint64]:
        """Return the ids of names, in their order; 0 for names that are not stored."""
        found = np.zeros(len(names), np.uint64)
        part = np.searchsorted(self.firsts, names, side="right") - 1
        for number in np.unique(part[part >= 0]).tolist():
            rows = np.flatnonzero(part == number)
            stored = read(self.parts[number])
            at = np.minimum(np.searchsorted(stored, names[rows]), len(stored) - 1)
            ids = self.ids_before[number] + at.astype(np.uint64) + np.uint64(1)
            found[rows] = np.where(stored[at] == names[rows], ids, np.uint64(0))
        return found


def part_name(layer: int, number: int) -> str:
    """Return the name of a stored part of a layer's list."""
    return f"{layer}.{number}"


def owned(records: Records, box: Box, shape: Shape) -> NDArray[np.bool_]:
    """Return which names are voxels of a box of the volume."""
    place = records.names.astype(np.int64) - 1
    z, rest = place // (shape[1] * shape[2]), place % (shape[1] * shape[2])
    inside = place >= 0
    for axis, at in enumerate((z, rest // shape[2], rest % shape[2])):
        inside &= (at >= box.start[axis]) & (at < box.stop[axis])
    return np.asarray(inside)


def dtype_of_ids(count: int) -> str:
    """Return the dtype of labels that holds ids up to ``count``: uint32 where they fit.

    >>> dtype_of_ids(2**32 - 1), dtype_of_ids(2**32)
    ('uint32', 'uint64')
    """
    return "uint32" if count < 2**32 else "uint64"
