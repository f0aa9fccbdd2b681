"""The surface of a block, for its neighbours: what they need to find the edges between them.

An edge is ordered by its higher voxel, whose neighbours only its own block knows. So each block
states, for the voxels of its surface, the rank of the neighbours across it that are lower.

::

            block a  |  block b
         labels  3 3 | 5 5           edge 3-5: heights 7 and 9, so b's voxel is the higher one;
         heights 2 7 | 9 4           a's voxel has rank 1 among its neighbours (4 is rank 0)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...base.compiled import compiled
from ...base.geometry import Box, Shape
from .forest import Lattice, flat_place, lattice_of, lower_neighbours
from .fragments import RANKS, Edges
from .joining import Array

NO_RANK: Final = 255
"""The neighbour is outside the graph, or it is the higher end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """One voxel deep surface of a block, with the axis across it 1 long.

    heights, seeds, ranks are empty for connected components. ranks: (offsets that leave the block
    here, z, y, x), in the order of the offsets. Of affinities, see edge_labelling.cut_edges.
    """

    labels: NDArray[np.int32]
    heights: NDArray[np.uint16]
    seeds: NDArray[np.bool_]
    ranks: NDArray[np.uint8]


def sides() -> Iterator[tuple[int, int]]:
    """Yield axis and direction, -1 or 1, of the faces of a block."""
    yield from itertools.product(range(3), (-1, 1))


def plane(shape: Shape, axis: int, side: int) -> tuple[slice, ...]:
    """Return the slices of a face of an array."""
    last = shape[axis] - 1
    return tuple(
        slice(None) if a != axis else (slice(0, 1) if side < 0 else slice(last, last + 1))
        for a in range(3)
    )


def leaving(offsets: NDArray[np.int64], axis: int, side: int) -> NDArray[np.int64]:
    """Return the positions of the offsets that leave a block through this face."""
    return np.flatnonzero(offsets[:, axis] == side)


def cut_face(
    labels: NDArray[np.int32],
    *,
    axis: int,
    side: int,
    offsets: NDArray[np.int64],
    heights: NDArray[np.uint16] | None = None,
    nodes: NDArray[np.uint8] | None = None,
    seeds: NDArray[np.int32] | None = None,
) -> Face:
    """Return a face of a block. heights, nodes: with a halo of one voxel, see forest.py."""
    at = plane(labels.shape, axis, side)
    shape = labels[at].shape
    if heights is None or nodes is None:
        return Face(
            labels=np.ascontiguousarray(labels[at]),
            heights=np.empty((0, 0, 0), np.uint16),
            seeds=np.empty((0, 0, 0), np.bool_),
            ranks=np.empty((0, 0, 0, 0), np.uint8),
        )
    low, high = np.zeros(3, np.int64), np.array(labels.shape, np.int64)
    low[axis], high[axis] = (0, 1) if side < 0 else (high[axis] - 1, high[axis])
    lattice = lattice_of(heights, nodes, offsets, start=(0, 0, 0), shape=labels.shape)
    ranks = _ranks(lattice, leaving(offsets, axis, side), low, high)
    core = heights[1:-1, 1:-1, 1:-1]
    return Face(
        labels=np.ascontiguousarray(labels[at]),
        heights=np.ascontiguousarray(core[at]),
        seeds=np.empty((0, 0, 0), np.bool_) if seeds is None else seeds[at] > 0,
        ranks=ranks.reshape(-1, *shape),
    )


@compiled
def _ranks(lattice: Lattice, through: Array, low: Array, high: Array) -> Array:
    """Return the ranks of lower neighbours across a face, whose voxels lie from low to high."""
    heights, nodes, steps, where = lattice
    count = (high[0] - low[0]) * (high[1] - low[1]) * (high[2] - low[2])
    ranks = np.full((through.size, count), NO_RANK, np.uint8)
    found = np.empty(RANKS, np.int64)
    i = 0
    for z in range(low[0], high[0]):
        for y in range(low[1], high[1]):
            for x in range(low[2], high[2]):
                at = flat_place(where, z, y, x)
                if nodes[at] == 1:
                    for j in range(lower_neighbours(heights, nodes, steps, at, found)):
                        for t in range(through.size):
                            if through[t] == found[j]:
                                ranks[t, i] = j
                i += 1
    return ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """Where two neighbouring blocks meet, as voxels of both faces that one offset connects."""

    position: int
    """Of the offset, from a voxel of the first block to one of the second."""
    here: tuple[slice, ...]
    there: tuple[slice, ...]


def meetings(
    here: Shape, there: Shape, direction: Shape, offsets: NDArray[np.int64]
) -> Iterator[Meeting]:
    """Yield the parts of two faces that meet, by offset.

    here, there: shapes of the blocks; direction: from the first to the second, -1, 0 or 1 per axis.
    The faces are those across the first axis along which the blocks differ.
    """
    across = next(axis for axis in range(3) if direction[axis])
    for position, offset in enumerate(offsets.tolist()):
        if any(d and o != d for d, o in zip(direction, offset, strict=True)):
            continue
        parts = [
            _along(offset[axis], direction[axis], here[axis], there[axis], axis == across)
            for axis in range(3)
        ]
        yield Meeting(
            position=position,
            here=tuple(one for one, _ in parts),
            there=tuple(other for _, other in parts),
        )


def _along(
    offset: int, direction: int, here: int, there: int, is_across: bool
) -> tuple[slice, slice]:
    if is_across:
        return slice(0, 1), slice(0, 1)
    if direction:
        first, last = slice(0, 1), slice(-1, None)
        return (last, first) if direction > 0 else (first, last)
    assert here == there
    stop = here - max(0, offset)
    return slice(max(0, -offset), stop), slice(max(0, offset), stop + offset)


def edges_across(
    here: Face,
    there: Face,
    *,
    blocks: tuple[Box, Box],
    direction: Shape,
    offsets: NDArray[np.int64],
    shape: Shape,
) -> Edges:
    """Return the lowest edge between each pair of fragments of two neighbouring blocks.

    here, there: the faces across the first axis along which the blocks differ. blocks: their boxes
    in the volume of ``shape``. The ends are labels. Voxels that certainly belong together, seeds or
    components that touch, give edges of height and place 0, below all others.
    """
    across = next(axis for axis in range(3) if direction[axis])
    through = leaving(offsets, across, direction[across])
    back = leaving(offsets, across, -direction[across])
    found: list[tuple[Array, ...]] = []
    for meeting in meetings(blocks[0].shape, blocks[1].shape, direction, offsets):
        one = here.labels[meeting.here].ravel()
        other = there.labels[meeting.there].ravel()
        both = (one > 0) & (other > 0)
        if not both.any():
            continue
        if not here.heights.size:
            height = np.zeros(one.size, np.int32)
            place = np.zeros(one.size, np.int64)
        else:
            opposite = len(offsets) - 1 - meeting.position
            ranks_here = here.ranks[np.searchsorted(through, meeting.position)]
            ranks_there = there.ranks[np.searchsorted(back, opposite)]
            has_edge = (ranks_here[meeting.here] != NO_RANK) | (
                ranks_there[meeting.there] != NO_RANK
            )
            both &= has_edge.ravel()
            height, place = _order(
                (here.heights[meeting.here], there.heights[meeting.there]),
                (ranks_here[meeting.here], ranks_there[meeting.there]),
                (_places(here, meeting.here, blocks[0], across, direction[across], shape),
                 _places(there, meeting.there, blocks[1], across, -direction[across], shape)),
            )  # fmt: skip
            if here.seeds.size:
                same = here.seeds[meeting.here].ravel() & there.seeds[meeting.there].ravel()
                height[same] = place[same] = 0
        found.append((one[both], other[both], height[both], place[both]))
    return lowest_edges(*(_joined([part[k] for part in found]) for k in range(4)))


def _order(heights, ranks, places):  # type: ignore[no-untyped-def]
    """Return height + 1 and place of edges, from both ends."""
    is_here = ranks[0].ravel() != NO_RANK
    height = np.where(is_here, heights[0].ravel(), heights[1].ravel()).astype(np.int32) + 1
    rank = np.where(is_here, ranks[0].ravel(), ranks[1].ravel()).astype(np.int64)
    return height, np.where(is_here, places[0], places[1]) * RANKS + rank


def _places(
    face: Face, part: tuple[slice, ...], block: Box, axis: int, side: int, shape: Shape
) -> NDArray[np.int64]:
    """Return the indices in the volume of the voxels of a part of a face."""
    start = list(block.start)
    if side > 0:
        start[axis] = block.stop[axis] - 1
    ranges = [
        np.arange(n, dtype=np.int64)[s] + a
        for n, s, a in zip(face.labels.shape, part, start, strict=True)
    ]
    z, y, x = np.ix_(*ranges)
    return np.asarray((z * shape[1] + y) * shape[2] + x).ravel()


def _joined(parts: list[Array]) -> NDArray[np.int64]:
    return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, np.int64)


def lowest_edges(
    one: NDArray[np.int64],
    other: NDArray[np.int64],
    height: NDArray[np.int64],
    place: NDArray[np.int64],
) -> Edges:
    """Return the lowest edge of each pair of ends; ends keep their order."""
    order = np.lexsort((place, height, other, one))
    one, other, height, place = one[order], other[order], height[order], place[order]
    is_first = np.ones(len(one), np.bool_)
    is_first[1:] = (one[1:] != one[:-1]) | (other[1:] != other[:-1])
    return Edges(
        one=one[is_first].astype(np.int64),
        other=other[is_first].astype(np.int64),
        height=height[is_first].astype(np.int32),
        place=place[is_first].astype(np.int64),
    )
