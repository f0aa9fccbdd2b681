"""The fragments of one block of a watershed: voxels that belong together wherever blocks are cut.

The watershed is the minimum spanning forest of the graph of neighbouring voxels (Meyer 1994;
Cousty et al. 2009) under a strict order. A voxel is ordered by its height, then by its place in
the volume. An edge is ordered by its higher voxel, then by the rank of the lower one among the
neighbours of the higher one. No two edges are equal, so there is one forest, and a block can decide
most of it by itself:

- An edge is *certain* if it is the lowest one that leaves a fragment which must still be joined
  to something, edges to other blocks included (cut property). Its fragments become one.
- An edge that closes a cycle of lower edges is never used (cycle property).
- The others are left for the tree of merges, as edges between fragments.

Two kinds of objects: with *seeds*, two fragments that both have a seed are never joined. By
*depth*, two fragments are not joined where both are at least ``depth`` deep, as seen from the edge:
the objects are the minima of dynamics >= depth (Grimaud 1992).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..base.geometry import Shape
from .compiled import compiled

RANKS: Final = 32
"""An edge's place is ``RANKS`` times the higher voxel's index in the volume, plus the rank."""
NO_HEIGHT: Final = 2**30
"""Above every height: of a fragment without an edge to other blocks."""
OUTSIDE, INSIDE, BEYOND = 0, 1, 2
"""No node of the graph; a node of this block; a node of another block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """Edges between fragments: their ends, and their order (height, then place).

    height: of the higher voxel, plus 1; 0 states that the ends certainly belong together.
    """

    one: NDArray[np.int64]
    other: NDArray[np.int64]
    height: NDArray[np.int32]
    place: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragments:
    """Fragments of a block: ``labels`` are 1 … in the order of their first voxels, 0 is no node.

    seeded: whether a fragment has a seed. lowest: its lowest height. Both by label, from 0.
    edges: between labels, those that the block cannot decide.
    """

    labels: NDArray[np.int32]
    count: int
    seeded: NDArray[np.bool_]
    lowest: NDArray[np.int32]
    edges: Edges


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
    padded = heights.shape
    strides = np.array((padded[1] * padded[2], padded[2], 1), np.int64)
    size = (padded[0] - 2, padded[1] - 2, padded[2] - 2)
    own = np.zeros((1, 1, 1), np.int32) if seeds is None else seeds
    labels, count, seeded, lowest, one, other, height, place = _grow(
        heights.ravel(), nodes.ravel(), own, seeds is not None, int(own.max(initial=0)),
        offsets @ strides, depth,
        np.array(size, np.int64), np.array(start, np.int64), np.array(shape, np.int64),
    )  # fmt: skip
    return Fragments(
        labels=labels.reshape(padded)[1:-1, 1:-1, 1:-1],
        count=count,
        seeded=seeded,
        lowest=lowest,
        edges=Edges(one=one, other=other, height=height, place=place),
    )


@compiled
def find(parent: NDArray[np.int64], node: int) -> int:
    """Return the root of a node, and shorten the path to it."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@compiled
def is_lower(height_a: int, place_a: int, height_b: int, place_b: int) -> bool:
    """Return whether edge a comes before edge b."""
    return height_a < height_b or (height_a == height_b and place_a < place_b)


@compiled
def lower_neighbours(  # type: ignore[no-untyped-def]
    at, heights, nodes, steps, found
):
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


@compiled
def _sorted_nodes(heights, nodes, fixed):  # type: ignore[no-untyped-def]
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
            k = np.int64(heights[i])
            order[starts[k]] = i
            starts[k] += 1
    return order


@compiled
def _index(at, size, start, shape):  # type: ignore[no-untyped-def]
    """Return the index in the volume of a voxel of the padded block."""
    row = size[2] + 2
    plane = row * (size[1] + 2)
    z = at // plane - 1
    y = at // row % (size[1] + 2) - 1
    x = at % row - 1
    return ((z + start[0]) * shape[1] + y + start[1]) * shape[2] + x + start[2]


@compiled
def _lowest_ways_out(  # type: ignore[no-untyped-def]
    heights, nodes, steps, parent, size, start, shape, out_height, out_place
):
    """Fill in the lowest edge to another block per fragment; ranks of other blocks' voxels count
    as 0, which is not above their rank.
    """
    row = size[2] + 2
    plane = row * (size[1] + 2)
    found = np.empty(32, np.int64)
    for z in range(size[0]):
        for y in range(size[1]):
            is_edge = z == 0 or z == size[0] - 1 or y == 0 or y == size[1] - 1
            step = 1 if is_edge or size[2] < 2 else size[2] - 1
            for x in range(0, size[2], step):
                at = (z + 1) * plane + (y + 1) * row + x + 1
                if nodes[at] != 1:
                    continue
                root = find(parent, at)
                count = lower_neighbours(at, heights, nodes, steps, found)
                place = _index(at, size, start, shape) * 32
                for j in range(count):
                    if nodes[at + steps[found[j]]] == 2 and is_lower(
                        heights[at], place + j, out_height[root], out_place[root]
                    ):
                        out_height[root], out_place[root] = heights[at], place + j
                for k in range(steps.size):
                    n = at + steps[k]
                    if nodes[n] != 2:
                        continue
                    if heights[n] > heights[at] or (heights[n] == heights[at] and steps[k] > 0):
                        place = _index(n, size, start, shape) * 32
                        if is_lower(heights[n], place, out_height[root], out_place[root]):
                            out_height[root], out_place[root] = heights[n], place


@compiled
def _grow(  # type: ignore[no-untyped-def]
    heights, nodes, seeds, has_seeds, seed_count, steps, depth, size, start, shape
):
    voxels = heights.size
    row = size[2] + 2
    plane = row * (size[1] + 2)
    forest = np.arange(voxels).astype(np.int32)  # all of the block's edges (cycle property)
    certain = np.arange(voxels).astype(np.int32)  # the fragments (cut property)
    forest_seeded = np.zeros(voxels, np.bool_)
    seeded = np.zeros(voxels, np.bool_)
    fixed = np.zeros(voxels, np.bool_)
    if has_seeds:
        first = np.full(seed_count + 1, -1, np.int64)
        for z in range(size[0]):
            for y in range(size[1]):
                for x in range(size[2]):
                    seed = seeds[z, y, x]
                    if seed == 0:
                        continue
                    at = (z + 1) * plane + (y + 1) * row + x + 1
                    if first[seed] < 0:
                        first[seed] = at
                        forest_seeded[at] = seeded[at] = True
                    forest[at] = certain[at] = first[seed]
                    fixed[at] = True
        for z in range(size[0]):  # a seed's voxel has an edge of use only at the seed's surface
            for y in range(size[1]):
                for x in range(size[2]):
                    if seeds[z, y, x] == 0:
                        continue
                    at = (z + 1) * plane + (y + 1) * row + x + 1
                    for k in range(steps.size):
                        n = at + steps[k]
                        if nodes[n] == 1 and certain[n] != certain[at]:
                            fixed[at] = False
                            break
    deepest = heights.copy() if not has_seeds else heights[:1].copy()  # of the certain fragments
    forest_deepest = heights.copy() if not has_seeds else heights[:1].copy()
    out_height = np.full(voxels, NO_HEIGHT, np.int32)
    out_place = np.zeros(voxels, np.int64)
    _lowest_ways_out(
        heights, nodes, steps, certain, size, start, shape, out_height, out_place
    )
    order = _sorted_nodes(heights, nodes, fixed)
    edge_one = np.empty(1024, np.int64)
    edge_other = np.empty(1024, np.int64)
    edge_height = np.empty(1024, np.int32)
    edge_place = np.empty(1024, np.int64)
    edges = 0
    found = np.empty(32, np.int64)
    for t in range(order.size):
        at = np.int64(order[t])
        height = np.int64(heights[at])
        count = lower_neighbours(at, heights, nodes, steps, found)
        if count == 0:
            continue
        index = np.int64(-1)
        for j in range(count):
            n = at + steps[found[j]]
            if nodes[n] != 1:
                continue
            a = find(certain, at)
            b = find(certain, n)
            if a == b:
                continue
            ra = find(forest, a)
            rb = find(forest, b)
            if ra == rb:
                continue
            if has_seeds:
                if forest_seeded[ra] and forest_seeded[rb]:
                    continue
            elif (
                height - np.int64(forest_deepest[ra]) >= depth
                and height - np.int64(forest_deepest[rb]) >= depth
            ):
                continue
            if index < 0:
                index = _index(at, size, start, shape) * 32
            place = index + j
            is_first_a = is_lower(height, place, out_height[a], out_place[a])
            is_first_b = is_lower(height, place, out_height[b], out_place[b])
            if has_seeds:
                is_certain = (is_first_a and not seeded[a]) or (is_first_b and not seeded[b])
            else:
                is_certain = (is_first_a and height - np.int64(deepest[a]) < depth) or (
                    is_first_b and height - np.int64(deepest[b]) < depth
                )
            if is_certain:
                if b < a:
                    a, b = b, a
                certain[b] = a
                seeded[a] |= seeded[b]
                if is_lower(out_height[b], out_place[b], out_height[a], out_place[a]):
                    out_height[a], out_place[a] = out_height[b], out_place[b]
                if not has_seeds and deepest[b] < deepest[a]:
                    deepest[a] = deepest[b]
            else:
                if edges == edge_one.size:
                    edge_one = np.concatenate((edge_one, np.empty(edges, np.int64)))
                    edge_other = np.concatenate((edge_other, np.empty(edges, np.int64)))
                    edge_height = np.concatenate((edge_height, np.empty(edges, np.int32)))
                    edge_place = np.concatenate((edge_place, np.empty(edges, np.int64)))
                edge_one[edges], edge_other[edges] = at, n
                edge_height[edges], edge_place[edges] = height + 1, place
                edges += 1
                if is_first_a:
                    out_height[a], out_place[a] = height, place
                if is_first_b:
                    out_height[b], out_place[b] = height, place
            if rb < ra:
                ra, rb = rb, ra
            forest[rb] = ra
            forest_seeded[ra] |= forest_seeded[rb]
            if not has_seeds and forest_deepest[rb] < forest_deepest[ra]:
                forest_deepest[ra] = forest_deepest[rb]
    labels = np.zeros(voxels, np.int32)
    count = 0
    for at in range(voxels):  # a root is the first voxel of its fragment
        if nodes[at] == 1:
            root = find(certain, at)
            if root == at:
                count += 1
                labels[at] = count
            else:
                labels[at] = labels[root]
    has_seed = np.zeros(count + 1, np.bool_)
    lowest = np.zeros(count + 1, np.int32)
    for at in range(voxels):
        if nodes[at] == 1 and certain[at] == at:
            has_seed[labels[at]] = seeded[at]
            if not has_seeds:
                lowest[labels[at]] = deepest[at]
    for e in range(edges):
        edge_one[e] = labels[edge_one[e]]
        edge_other[e] = labels[edge_other[e]]
    return (
        labels, count, has_seed, lowest,
        edge_one[:edges], edge_other[:edges], edge_height[:edges], edge_place[:edges],
    )  # fmt: skip
