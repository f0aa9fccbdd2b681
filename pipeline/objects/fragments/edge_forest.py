"""The fragments of one block where edges have scores of their own: affinities.

The same minimum spanning forest as in forest.py, and the same two rules (joining.py); only the
order differs. An edge connects a voxel with the one before it along an axis. It is ordered by its
height, the highest affinity minus its own, then by the voxel's place in the volume, then by the
axis. A block knows the heights and places of all edges to other blocks, as it reads one voxel more
at its high sides::

    | before |        block         | next |
        o ───┼─── o ─── o ─── o ────┼── o
           edge of the             edge of the
           first voxel             next one
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...base.compiled import compiled, inlined
from ...base.geometry import Shape
from .fragments import RANKS, Fragments, as_fragments
from .joining import LEFT, PART, TREE, Array, Number, Sets, decide, find, leave, new_sets

_HEIGHTS: Final = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockEdges:
    """The edges of a block's voxels, and of the voxels next to it at its high sides.

    axes: along which edges connect voxels, ascending. heights, certain: (axes, z + 1, y + 1,
    x + 1), of the edge from each voxel to the one before it. Edges higher than ``highest`` do not
    exist. certain: whether both ends belong together, in a seed or a component.
    """

    axes: tuple[int, ...]
    heights: NDArray[np.uint16]
    certain: NDArray[np.bool_]
    highest: int

    def lowest(self) -> NDArray[np.uint16]:
        """Return the height of the lowest edge of each voxel of the block (z, y, x)."""
        found = np.full(tuple(n - 1 for n in self.heights.shape[1:]), _HEIGHTS - 1, np.uint16)
        for axis, heights in zip(self.axes, self.heights, strict=True):
            for part in _both_sides(heights, axis):
                np.minimum(found, part, out=found)
        return found

    def in_seeds(self) -> NDArray[np.bool_]:
        """Return which voxels of the block have an edge that is certain (z, y, x)."""
        found = np.zeros(tuple(n - 1 for n in self.certain.shape[1:]), np.bool_)
        for axis, certain in zip(self.axes, self.certain, strict=True):
            for part in _both_sides(certain, axis):
                found |= part
        return found


def _both_sides(values: Array, axis: int) -> tuple[Array, Array]:
    """Return the values of a block's edges, seen from their voxel and from the one before it."""
    own = (slice(None, -1),) * 3
    behind = tuple(slice(1, None) if a == axis else slice(None, -1) for a in range(3))
    return values[own], values[behind]


def grow_along_edges(
    edges: BlockEdges, seeded: NDArray[np.bool_], *, depth: int, start: Shape, shape: Shape
) -> Fragments:
    """Return the fragments of a block; voxels without an edge are outside.

    seeded: which voxels belong to a seed (z, y, x); none for objects by depth. depth: in the unit
    of heights. start: the block's first voxel in the volume, of ``shape``.
    """
    lowest = edges.lowest()
    size = lowest.shape
    nodes = (lowest <= edges.highest).ravel().astype(np.uint8)
    where = np.array((*size, *start, *shape), np.int64)
    axes = np.array(edges.axes, np.int64)
    parts = new_sets(seeded.ravel(), lowest.ravel(), kind=PART)
    forest = new_sets(seeded.ravel(), lowest.ravel(), kind=TREE)
    _join_certain(edges.certain, axes, where, parts, forest, depth)
    _note_ways_out(edges.heights, edges.certain, edges.highest, axes, where, parts.parent, parts.of)
    order, stops = _sorted_edges(edges, axes, where)
    left = _grow(order, stops, axes, where, parts, forest, depth)
    return as_fragments(nodes, parts, left, shape=size)


@inlined
def _step(where: Array, axis: Number) -> int:
    """Return the distance in the flat block to the next voxel along an axis."""
    step: int = where[1] * where[2] if axis == 0 else (where[2] if axis == 1 else 1)
    return step


@inlined
def _place_of(where: Array, z: Number, y: Number, x: Number, axis: Number) -> int:
    """Return the place of an edge: ``RANKS`` times its voxel's index in the volume, plus axis."""
    row = (z + where[3]) * where[7] + y + where[4]
    place: int = (row * where[8] + x + where[5]) * RANKS + axis
    return place


@compiled
def _join_certain(
    certain: Array, axes: Array, where: Array, sets: Sets, forest: Sets, depth: int
) -> None:
    """Join the ends of the edges inside the block that are certain."""
    part, parts = sets
    tree, trees = forest
    for k in range(axes.size):
        axis = axes[k]
        step = _step(where, axis)
        for z in range(1 if axis == 0 else 0, where[0]):
            for y in range(1 if axis == 1 else 0, where[1]):
                at = (z * where[1] + y) * where[2]
                for x in range(1 if axis == 2 else 0, where[2]):
                    if certain[k, z, y, x]:
                        edge = (at + x, at + x - step, np.int64(0), np.int64(0))
                        decide(edge, part, parts, tree, trees, depth)


@compiled
def _note_ways_out(
    heights: Array,
    certain: Array,
    highest: int,
    axes: Array,
    where: Array,
    part: Array,
    parts: Array,
) -> None:
    """Note the lowest edge to another block per fragment."""
    for k in range(axes.size):
        axis = axes[k]
        step = _step(where, axis)
        for side in range(2):  # edges of the first voxels, and of those behind the last ones
            first, stop = np.zeros(3, np.int64), where[:3].copy()
            first[axis] = side * where[axis]
            stop[axis] = first[axis] + 1
            for z in range(first[0], stop[0]):
                for y in range(first[1], stop[1]):
                    for x in range(first[2], stop[2]):
                        height = np.int64(heights[k, z, y, x])
                        if height > highest:
                            continue
                        at = (z * where[1] + y) * where[2] + x - side * step
                        root = find(part, at)
                        if certain[k, z, y, x]:
                            leave(parts, root, np.int64(0), np.int64(0))
                        else:
                            leave(parts, root, height + 1, _place_of(where, z, y, x, axis))


def _sorted_edges(edges: BlockEdges, axes: Array, where: Array) -> tuple[Array, Array]:
    """Return the edges inside the block that are not certain, by height, then by place.

    An edge is numbered by its voxel, times the number of axes, plus the position of its axis. Also
    returned is, per height, where its edges end in the order.
    """
    stops = _counted(edges.heights, edges.certain, edges.highest, axes, where)
    numbers = len(edges.axes) * int(np.prod(where[:3]))
    order = np.empty(int(stops[-1]), np.int32 if numbers < 2**31 else np.int64)
    _fill(order, stops, edges.heights, edges.certain, edges.highest, axes, where)
    return order, stops


@inlined
def _is_inside(axis: Number, z: Number, y: Number, x: Number) -> bool:
    """Return whether the voxel before one along an axis is in the block."""
    along: int = z if axis == 0 else (y if axis == 1 else x)
    return along > 0


@compiled
def _counted(heights: Array, certain: Array, highest: int, axes: Array, where: Array) -> Array:
    """Return, per height, where its edges begin in the order."""
    starts = np.zeros(_HEIGHTS + 1, np.int64)
    for k in range(axes.size):
        for z in range(where[0]):
            for y in range(where[1]):
                for x in range(where[2]):
                    height = np.int64(heights[k, z, y, x])
                    is_open = height <= highest and not certain[k, z, y, x]
                    if is_open and _is_inside(axes[k], z, y, x):
                        starts[height + 1] += 1
    for level in range(_HEIGHTS):
        starts[level + 1] += starts[level]
    return starts


@compiled
def _fill(
    order: Array,
    starts: Array,
    heights: Array,
    certain: Array,
    highest: int,
    axes: Array,
    where: Array,
) -> None:
    """Write the numbers of the edges in order; each start becomes the end of its height."""
    at = 0
    for z in range(where[0]):
        for y in range(where[1]):
            for x in range(where[2]):
                for k in range(axes.size):
                    height = np.int64(heights[k, z, y, x])
                    is_open = height <= highest and not certain[k, z, y, x]
                    if is_open and _is_inside(axes[k], z, y, x):
                        order[starts[height]] = at * axes.size + k
                        starts[height] += 1
                at += 1


@compiled
def _grow(
    order: Array, stops: Array, axes: Array, where: Array, certain: Sets, forest: Sets, depth: int
) -> tuple[Array, Array, Array, Array]:
    """Decide on sorted edges inside the block; return those left: ends, height plus 1, place."""
    part, parts = certain
    tree, trees = forest
    one = np.empty(1024, np.int64)
    other, height, place = one.copy(), one.copy(), one.copy()
    left, done = 0, 0
    for level in range(_HEIGHTS):
        while done < stops[level]:
            number = np.int64(order[done])
            done += 1
            at, axis = number // axes.size, axes[number % axes.size]
            z, row = at // (where[1] * where[2]), at // where[2]
            ordered = _place_of(where, z, row % where[1], at % where[2], axis)
            edge = (at, at - _step(where, axis), np.int64(level + 1), ordered)
            if decide(edge, part, parts, tree, trees, depth) == LEFT:
                if left == one.size:
                    more = np.empty(left, np.int64)
                    one, other = np.concatenate((one, more)), np.concatenate((other, more))
                    height, place = np.concatenate((height, more)), np.concatenate((place, more))
                one[left], other[left], height[left], place[left] = edge
                left += 1
    return one[:left], other[:left], height[:left], place[:left]
