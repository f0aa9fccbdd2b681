"""The fragments of one block of a watershed: voxels that belong together wherever blocks are cut.

The watershed is the minimum spanning forest of the graph of neighbouring voxels (Meyer 1994;
Cousty et al. 2009) under a strict order. A voxel is ordered by its height, then by its place in
the volume. An edge is ordered by its higher voxel, then by the rank of the lower one among the
neighbours of the higher one. No two edges are equal, so there is one forest, and a block can decide
most of it by itself (see joining.py). What it leaves are edges between fragments.

Two kinds of objects: with *seeds*, two fragments that both have a seed are never joined. By
*depth*, two fragments are not joined where both are at least ``depth`` deep, as seen from the edge:
the objects are the minima of dynamics >= depth (Grimaud 1992).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...base.compiled import compiled, inlined
from ...base.geometry import Shape
from ..definition.neighbourhood import neighbour_offsets
from .fragments import RANKS, Fragments, as_fragments
from .joining import LEFT, PART, TREE, Array, Number, Sets, decide, find, leave, new_sets

OUTSIDE, INSIDE, BEYOND = 0, 1, 2
"""Outside the graph; a node of this block; a node of another block."""


class Lattice(NamedTuple):
    """A block's voxels with one voxel of halo, flat, and where they lie.

    steps: distances in the flat array to the neighbours, in raster order. where: size of the block
    without halo, its first voxel in the volume, and the volume's shape, each z, y, x.
    """

    heights: Array
    nodes: Array
    steps: Array
    where: Array


def grow_fragments(
    heights: NDArray[np.uint16],
    nodes: NDArray[np.uint8],
    seeds: NDArray[np.int32] | None,
    *,
    offsets: NDArray[np.int64],
    depth: int,
    start: Shape,
    shape: Shape,
) -> Fragments:
    """Return the fragments of a block.

    heights, nodes: (z, y, x) with one voxel of halo on all sides; ``nodes`` is OUTSIDE beyond the
    volume. seeds: labels of the block's seeds without halo; None for objects by depth. offsets:
    see neighbourhood.py. depth: in the unit of heights. start: the block's first voxel in the
    volume, of ``shape``.
    """
    lattice = lattice_of(heights, nodes, offsets, start=start, shape=shape)
    none = np.zeros(heights.size, np.bool_)
    parts = new_sets(none, lattice.heights, kind=PART)
    fixed = none.copy()
    if seeds is not None:
        _plant(lattice, seeds, int(seeds.max(initial=0)), parts.parent, parts.of, fixed)
    forest = new_sets(parts.of["seeded"], lattice.heights, kind=TREE)
    forest.parent[:] = parts.parent
    _lowest_ways_out(*lattice, parts.parent, parts.of)
    order = _sorted_nodes(lattice.heights, lattice.nodes, fixed)
    left = _grow(lattice, order, parts, forest, depth)
    found = as_fragments(lattice.nodes, parts, left, shape=heights.shape)
    return replace(found, labels=found.labels[1:-1, 1:-1, 1:-1])


def flood(heights: NDArray[np.uint16], seeds: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the labels of a whole volume (z, y, x) that grow from seeds, through faces.

    seeds: labels 1, 2 …, at least one; every voxel gets the label of a seed.
    """
    padded = np.pad(heights, 1)
    nodes = np.pad(np.full(heights.shape, INSIDE, np.uint8), 1)
    offsets = neighbour_offsets(6, per_slice=False)
    grown = grow_fragments(
        padded, nodes, seeds, offsets=offsets, depth=0, start=(0, 0, 0), shape=heights.shape
    )
    lookup = np.zeros(grown.count + 1, np.int32)
    planted = seeds > 0
    lookup[grown.labels[planted]] = seeds[planted]
    return lookup[grown.labels]


def lattice_of(
    heights: NDArray[np.uint16],
    nodes: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    *,
    start: Shape,
    shape: Shape,
) -> Lattice:
    """Return the voxels of a block as the compiled loops take them."""
    _, rows, columns = heights.shape
    return Lattice(
        heights=heights.ravel(),
        nodes=nodes.ravel(),
        steps=offsets @ np.array((rows * columns, columns, 1), np.int64),
        where=np.array((*(n - 2 for n in heights.shape), *start, *shape), np.int64),
    )


@inlined
def lower_neighbours(heights: Array, nodes: Array, steps: Array, at: Number, found: Array) -> int:
    """Write positions in ``steps`` of the lower neighbours of a voxel, lowest first; return how
    many. The position in ``found`` is a neighbour's rank.
    """
    height = heights[at]
    count = 0
    for k in range(steps.size):
        neighbour = at + steps[k]
        if nodes[neighbour] == 0:
            continue
        other = heights[neighbour]
        if other < height or (other == height and steps[k] < 0):
            j = count
            while j > 0 and heights[at + steps[found[j - 1]]] > other:
                found[j] = found[j - 1]
                j -= 1
            found[j] = k
            count += 1
    return count


@inlined
def flat_place(where: Array, z: Number, y: Number, x: Number) -> int:
    """Return the place in the flat array of a voxel of the block."""
    row = where[2] + 2
    place: int = (z + 1) * row * (where[1] + 2) + (y + 1) * row + x + 1
    return place


@inlined
def _order_of(where: Array, at: Number) -> int:
    """Return ``RANKS`` times the index in the volume of a voxel of the flat array."""
    row = where[2] + 2
    plane = row * (where[1] + 2)
    z = at // plane - 1 + where[3]
    y = at // row % (where[1] + 2) - 1 + where[4]
    order: int = ((z * where[7] + y) * where[8] + at % row - 1 + where[5]) * RANKS
    return order


@compiled
def _plant(
    lattice: Lattice, seeds: Array, count: int, part: Array, parts: Array, fixed: Array
) -> None:
    """Join the voxels of each seed; mark those from which no edge of use goes down."""
    _, nodes, steps, where = lattice
    first = np.full(count + 1, -1, np.int64)
    depth, height, width = seeds.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                seed = seeds[z, y, x]
                if seed:
                    at = flat_place(where, z, y, x)
                    if first[seed] < 0:
                        first[seed] = at
                        parts[at].seeded = True
                    part[at] = first[seed]
                    fixed[at] = True
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if seeds[z, y, x]:
                    at = flat_place(where, z, y, x)
                    for k in range(steps.size):
                        if nodes[at + steps[k]] == 1 and part[at + steps[k]] != part[at]:
                            fixed[at] = False
                            break


@compiled
def _sorted_nodes(heights: Array, nodes: Array, fixed: Array) -> Array:
    """Return the block's nodes by height, then by place; without those that are ``fixed``."""
    starts = np.zeros(65537, np.int64)
    for i in range(heights.size):
        if nodes[i] == 1 and not fixed[i]:
            starts[np.int64(heights[i]) + 1] += 1
    for k in range(65536):
        starts[k + 1] += starts[k]
    order = np.empty(starts[65536], np.int32)
    for i in range(heights.size):
        if nodes[i] == 1 and not fixed[i]:
            place = np.int64(heights[i])
            order[starts[place]] = i
            starts[place] += 1
    return order


@compiled
def _lowest_ways_out(
    heights: Array, nodes: Array, steps: Array, where: Array, part: Array, parts: Array
) -> None:
    """Note the lowest edge to another block per fragment.

    Ranks of other blocks' voxels are unknown here and count as 0: too low is safe, as the edge is
    then left to the group.
    """
    found = np.empty(RANKS, np.int64)
    for z in range(where[0]):
        for y in range(where[1]):
            is_edge = z == 0 or z == where[0] - 1 or y == 0 or y == where[1] - 1
            step = 1 if is_edge or where[2] < 2 else where[2] - 1
            for x in range(0, where[2], step):
                at = flat_place(where, z, y, x)
                if nodes[at] != 1:
                    continue
                root = find(part, at)
                height = np.int64(heights[at])
                order = _order_of(where, at)
                for j in range(lower_neighbours(heights, nodes, steps, at, found)):
                    if nodes[at + steps[found[j]]] == 2:
                        leave(parts, root, height + 1, order + j)
                for k in range(steps.size):
                    n = at + steps[k]
                    if nodes[n] == 2 and (
                        heights[n] > height or (heights[n] == height and steps[k] > 0)
                    ):
                        leave(parts, root, np.int64(heights[n]) + 1, _order_of(where, n))


@compiled
def _grow(
    lattice: Lattice, order: Array, certain: Sets, forest: Sets, depth: int
) -> tuple[Array, Array, Array, Array]:
    """Decide on all edges inside the block; return those that are left: ends, height, place."""
    heights, nodes, steps, where = lattice
    part, parts = certain
    tree, trees = forest
    one = np.empty(1024, np.int64)
    other, height, place = one.copy(), one.copy(), one.copy()
    left = 0
    found = np.empty(RANKS, np.int64)
    for t in range(order.size):
        at = np.int64(order[t])
        count = lower_neighbours(heights, nodes, steps, at, found)
        if count == 0:
            continue
        first = _order_of(where, at)
        raised = np.int64(heights[at]) + 1
        for j in range(count):
            n = at + steps[found[j]]
            if nodes[n] != 1:
                continue
            edge = (at, n, raised, first + j)
            if decide(edge, part, parts, tree, trees, depth) == LEFT:
                if left == one.size:
                    more = np.empty(left, np.int64)
                    one, other = np.concatenate((one, more)), np.concatenate((other, more))
                    height, place = np.concatenate((height, more)), np.concatenate((place, more))
                one[left], other[left], height[left], place[left] = edge
                left += 1
    return one[:left], other[:left], height[:left], place[:left]
