"""Connected components of a volume from the components of its blocks, joined across faces.

Each block is labelled separately, in two passes. In the first, workers return only faces and
numbers of components, and components that touch across a face are joined here. In the second,
workers replace their labels by those of the whole volume. No process holds the volume.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .grid import Index

Labels: TypeAlias = NDArray[np.int32]
Names: TypeAlias = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFaces:
    """The components of one block: how many, and their labels on its first and last planes."""

    count: int
    first: tuple[Labels, ...]
    """Per axis, the plane at its low end."""
    last: tuple[Labels, ...]
    """Per axis, the plane at its high end."""

    @classmethod
    def of(cls, labels: Labels, count: int) -> BlockFaces:
        """Return the faces of a labelled block."""
        axes = range(labels.ndim)
        return cls(
            count=count,
            first=tuple(labels.take([0], axis=axis) for axis in axes),
            last=tuple(labels.take([-1], axis=axis) for axis in axes),
        )


@dataclass(slots=True, kw_only=True)
class ComponentMerger:
    """Joins the components of blocks as their faces come in, in any order.

    blocks: per axis. A face is kept only until its neighbour arrives.
    """

    blocks: Index
    _counts: dict[Index, int] = field(default_factory=dict)
    _waiting: dict[tuple[Index, int], Labels] = field(default_factory=dict)
    """Planes at the low end of block ``index`` along an axis, from the block that arrived first."""
    _touching: list[tuple[Index, Index, NDArray[np.int64]]] = field(default_factory=list)

    def add(self, index: Index, faces: BlockFaces) -> None:
        """Add the faces of a block."""
        self._counts[index] = faces.count
        for axis, (first, last) in enumerate(zip(faces.first, faces.last, strict=True)):
            if index[axis] > 0:
                self._meet(index, axis, first, is_first=True)
            if index[axis] + 1 < self.blocks[axis]:
                after = (*index[:axis], index[axis] + 1, *index[axis + 1 :])
                self._meet(after, axis, last, is_first=False)

    def _meet(self, index: Index, axis: int, plane: Labels, *, is_first: bool) -> None:
        """Join the planes where block ``index`` starts along ``axis``, once both have arrived."""
        other = self._waiting.pop((index, axis), None)
        if other is None:
            self._waiting[index, axis] = plane
            return
        before, after = (other, plane) if is_first else (plane, other)
        touch = (before > 0) & (after > 0)
        pairs = np.unique(np.stack((before[touch], after[touch]), axis=1), axis=0)
        if pairs.size:
            neighbour = (*index[:axis], index[axis] - 1, *index[axis + 1 :])
            self._touching.append((neighbour, index, pairs.astype(np.int64)))

    def names(self) -> Mapping[Index, Names]:
        """Return, per block, the labels in the whole volume of its labels 0, 1, 2 …; 0 stays 0."""
        offsets: dict[Index, int] = {}
        total = 0
        for index in sorted(self._counts):
            offsets[index] = total
            total += self._counts[index]
        edges = [
            pairs + np.array((offsets[before] - 1, offsets[after] - 1))
            for before, after, pairs in self._touching
        ]
        joined = np.concatenate(edges) if edges else np.empty((0, 2), np.int64)
        graph = coo_array((np.ones(len(joined), np.int8), tuple(joined.T)), (total, total))
        _, component = connected_components(graph, directed=False)
        named = component.astype(np.uint64) + np.uint64(1)
        zero = np.zeros(1, np.uint64)
        return {
            index: np.concatenate((zero, named[offset : offset + self._counts[index]]))
            for index, offset in offsets.items()
        }
