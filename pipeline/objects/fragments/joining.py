"""The two rules by which an edge joins fragments, is dropped, or is left for a larger group.

An edge is looked at after all lower ones of its group, by numba-compiled loops over the voxels of
a block (forest.py) and over the fragments of a group of blocks (merge.py).

- Cut property: an edge is *certain* if it is the lowest one that leaves a fragment which must still
  be joined to something, edges that leave the group included. Its fragments become one.
- Cycle property: an edge that closes a cycle of lower edges of the group is never used.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from ...base.compiled import inlined

Array: TypeAlias = Any
"""Compiled functions take arrays of several dtypes."""
Number: TypeAlias = Any
"""An integer of any width."""

NO_HEIGHT: Final = 2**30
"""Above every height: of a fragment from which no edge leaves the group."""
DROPPED, CERTAIN, LEFT = 0, 1, 2


PART: Final = np.dtype(
    [
        ("way_place", np.int64),
        ("way_height", np.int32),
        ("lowest", np.int32),
        ("seeded", np.bool_),
    ],
    align=True,
)
"""Properties of what edges certainly join, valid at the root of each disjoint set: whether it has a
seed, its lowest height, and its lowest edge that leaves the group or is left."""
TREE: Final = np.dtype([("lowest", np.int32), ("seeded", np.bool_)], align=True)
"""Properties of what edges of the group join, certain or not."""


class Sets(NamedTuple):
    """Disjoint sets of nodes: each node's parent, and properties (PART or TREE) of the roots."""

    parent: Array
    of: Array


@inlined
def find(parent: Array, node: Number) -> Number:
    """Return the root of a node, and shorten the path to it."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@inlined
def is_lower(height_a: Number, place_a: Number, height_b: Number, place_b: Number) -> bool:
    """Return whether edge a comes before edge b."""
    return height_a < height_b or (height_a == height_b and place_a < place_b)


@inlined
def decide(
    edge: tuple[Number, Number, Number, Number],
    part: Array,
    parts: Array,
    tree: Array,
    trees: Array,
    depth: Number,
) -> int:
    """Decide on an edge and join what it joins; return DROPPED, CERTAIN or LEFT.

    edge: both ends, height plus 1 (or 0, see forest.Edges) and place. part, parts: parents and
    properties of the sets of nodes that are joined certainly; tree, trees: of those that are
    joined in the group; see Sets. depth: see method.Rule; 0 for seeds and for components.
    """
    one, other, height, place = edge
    a = find(part, one)
    b = find(part, other)
    if a == b:
        return DROPPED
    root_a = find(tree, a)
    root_b = find(tree, b)
    if height > 0:
        if root_a == root_b:
            return DROPPED
        if depth > 0:
            if (
                height - 1 - trees[root_a].lowest >= depth
                and height - 1 - trees[root_b].lowest >= depth
            ):
                return DROPPED
        elif trees[root_a].seeded and trees[root_b].seeded:
            return DROPPED
    low, high = min(root_a, root_b), max(root_a, root_b)
    tree[high] = low
    trees[low].seeded |= trees[high].seeded
    trees[low].lowest = min(trees[low].lowest, trees[high].lowest)
    if (
        height == 0
        or _must_take(parts, a, height, place, depth)
        or _must_take(parts, b, height, place, depth)
    ):
        low, high = min(a, b), max(a, b)  # the root is the first of both
        part[high] = low
        parts[low].seeded |= parts[high].seeded
        parts[low].lowest = min(parts[low].lowest, parts[high].lowest)
        leave(parts, low, parts[high].way_height, parts[high].way_place)
        return CERTAIN
    leave(parts, a, height, place)
    leave(parts, b, height, place)
    return LEFT


@inlined
def _must_take(parts: Array, at: Number, height: Number, place: Number, depth: Number) -> bool:
    """Return whether a part must be joined to something, and this edge is its lowest."""
    if depth > 0:
        if height - 1 - parts[at].lowest >= depth:
            return False
    elif parts[at].seeded:
        return False
    return is_lower(height, place, parts[at].way_height, parts[at].way_place)


@inlined
def leave(parts: Array, at: Number, height: Number, place: Number) -> None:
    """Note an edge of a part that the group cannot decide, or that leaves it."""
    if is_lower(height, place, parts[at].way_height, parts[at].way_place):
        parts[at].way_height = height
        parts[at].way_place = place


def new_sets(seeded: Array, lowest: Array, *, kind: np.dtype[Any]) -> Sets:
    """Return one set per node. kind: PART, without edges that leave the group, or TREE."""
    count = len(seeded)
    of = np.zeros(count, kind)
    of["seeded"], of["lowest"] = seeded, lowest
    if kind == PART:
        of["way_height"] = NO_HEIGHT
    return Sets(np.arange(count, dtype=np.int32 if count < 2**31 else np.int64), of)
