"""Merges groups of blocks: joins their fragments as far as the edges inside the group decide.

The same two rules as inside a block (see forest.py), on the graph of the fragments that are left.
A group's state holds what the groups around it may still change; all else is finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled
from .faces import lowest_edges
from .forest import NO_HEIGHT, Edges, find, is_lower
from .measures import Records


@dataclass(frozen=True, slots=True, kw_only=True)
class WaysOut:
    """Edges that leave a group, each with the fragments of the blocks that it connects.

    node: the group's node. here, there: names of the fragments, as the blocks named them.
    """

    node: NDArray[np.int64]
    here: NDArray[np.uint64]
    there: NDArray[np.uint64]
    height: NDArray[np.int32]
    place: NDArray[np.int64]

    def taken(self, rows: NDArray[np.bool_]) -> WaysOut:
        """Return some of the edges."""
        return WaysOut(
            node=self.node[rows], here=self.here[rows], there=self.there[rows],
            height=self.height[rows], place=self.place[rows],
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupState:
    """A group's graph: nodes with records, edges between them, and edges that leave the group.

    seeded, lowest: per node, see forest.py; without seeds, all nodes count as seeded.
    """

    records: Records
    seeded: NDArray[np.bool_]
    lowest: NDArray[np.int32]
    edges: Edges
    ways_out: WaysOut


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of a child's nodes: the parent's node, or -1 and the finished record.

    A finished node that belongs to no object has the name 0.
    """

    node: NDArray[np.int64]
    records: Records


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When two fragments may not be joined: both have a seed, or both are ``depth`` deep.

    Connected components have neither.
    """

    has_seeds: bool = False
    depth: int = 0


def merge(children: Sequence[GroupState], rule: Rule) -> tuple[GroupState, tuple[Settled, ...]]:
    """Return the state of the group that consists of ``children``, and what became of their nodes."""
    joined = _concatenated(children)
    edges, ways_out = _resolved(joined)
    count = len(joined.records)
    out_height, out_place = _lowest_out(ways_out, count)
    order = np.lexsort((edges.place, edges.height))
    root, is_kept, seeded, lowest = _contract(
        edges.one[order], edges.other[order], edges.height[order], edges.place[order],
        joined.seeded.copy(), joined.lowest.copy(), out_height, out_place,
        rule.has_seeds, rule.depth,
    )  # fmt: skip
    kept = order[is_kept]
    is_open = np.zeros(count, np.bool_)
    for ends in (edges.one[kept], edges.other[kept], ways_out.node):
        is_open[root[ends]] = True
    records = _by_root(joined.records, root)
    number = np.full(count, -1, np.int64)
    opened = np.flatnonzero(is_open)
    number[opened] = np.arange(len(opened))
    one, other = number[root[edges.one[kept]]], number[root[edges.other[kept]]]
    state = GroupState(
        records=records.taken(opened),
        seeded=seeded[opened],
        lowest=lowest[opened],
        edges=lowest_edges(
            np.minimum(one, other), np.maximum(one, other),
            edges.height[kept].astype(np.int64), edges.place[kept],
        ),
        ways_out=WaysOut(
            node=number[root[ways_out.node]], here=ways_out.here, there=ways_out.there,
            height=ways_out.height, place=ways_out.place,
        ),
    )  # fmt: skip
    finished = records.taken(root)
    finished.names[~seeded[root]] = 0
    return state, _per_child(children, number[root], finished)


def _concatenated(children: Sequence[GroupState]) -> GroupState:
    starts = np.cumsum([0, *(len(child.records) for child in children)])

    def columns(name: str, of: str, *, shifted: bool = False) -> NDArray[np.int64]:
        parts = [
            getattr(getattr(child, of) if of else child, name) + (start if shifted else 0)
            for child, start in zip(children, starts[:-1].tolist(), strict=True)
        ]
        whole: NDArray[np.int64] = np.concatenate(parts)
        return whole

    return GroupState(
        records=Records(
            **{name: np.concatenate([getattr(child.records, name) for child in children])
               for name in ("names", "voxels", "at_edge")}
        ),
        seeded=np.concatenate([child.seeded for child in children]),
        lowest=np.concatenate([child.lowest for child in children]),
        edges=Edges(
            one=columns("one", "edges", shifted=True), other=columns("other", "edges", shifted=True),
            height=np.concatenate([child.edges.height for child in children]),
            place=columns("place", "edges"),
        ),
        ways_out=WaysOut(
            node=columns("node", "ways_out", shifted=True),
            here=np.concatenate([child.ways_out.here for child in children]),
            there=np.concatenate([child.ways_out.there for child in children]),
            height=np.concatenate([child.ways_out.height for child in children]),
            place=columns("place", "ways_out"),
        ),
    )  # fmt: skip


def _resolved(joined: GroupState) -> tuple[Edges, WaysOut]:
    """Return all edges inside the group, those between its children included, and the others.

    A fragment has a way out exactly if the fragment on the other side has it too, so the names of
    the fragments on this side say which ones lie inside the group.
    """
    out = joined.ways_out
    names, first = np.unique(out.here, return_index=True)
    at = np.minimum(np.searchsorted(names, out.there), max(0, len(names) - 1))
    is_inside = names[at] == out.there if len(names) else np.zeros(0, np.bool_)
    other = out.node[first[at[is_inside]]]
    one = out.node[is_inside]
    own = joined.edges
    edges = lowest_edges(
        np.concatenate((own.one, np.minimum(one, other))),
        np.concatenate((own.other, np.maximum(one, other))),
        np.concatenate((own.height, out.height[is_inside])).astype(np.int64),
        np.concatenate((own.place, out.place[is_inside])),
    )
    return edges, out.taken(~is_inside)


def _lowest_out(ways_out: WaysOut, count: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return height and place of the lowest edge of each node that leaves the group."""
    height = np.full(count, NO_HEIGHT, np.int32)
    place = np.zeros(count, np.int64)
    order = np.lexsort((ways_out.place, ways_out.height, ways_out.node))
    node = ways_out.node[order]
    is_first = np.ones(len(node), np.bool_)
    is_first[1:] = node[1:] != node[:-1]
    first = order[is_first]
    height[ways_out.node[first]] = ways_out.height[first]
    place[ways_out.node[first]] = ways_out.place[first]
    return height, place


def _by_root(records: Records, root: NDArray[np.int64]) -> Records:
    """Return records summed over the nodes of each root; those of other nodes are undefined."""
    names = records.names.copy()
    np.minimum.at(names, root, records.names)
    voxels = np.zeros(len(records), np.int64)
    np.add.at(voxels, root, records.voxels)
    at_edge = np.zeros(len(records), np.bool_)
    np.logical_or.at(at_edge, root, records.at_edge)
    return Records(names=names, voxels=voxels, at_edge=at_edge)


def _per_child(
    children: Sequence[GroupState], node: NDArray[np.int64], finished: Records
) -> tuple[Settled, ...]:
    stops = np.cumsum([len(child.records) for child in children]).tolist()
    starts = [0, *stops[:-1]]
    return tuple(
        Settled(node=node[a:b], records=finished.taken(np.arange(a, b)))
        for a, b in zip(starts, stops, strict=True)
    )


@compiled
def _contract(  # type: ignore[no-untyped-def]
    one, other, height, place, seeded, lowest, out_height, out_place, has_seeds, depth
):
    """Return the root of each node, which edges are left, and seeds and lowest heights of roots.

    Edges are sorted. seeded, lowest, out_height and out_place are overwritten.
    """
    count = seeded.size
    forest = np.arange(count)
    certain = np.arange(count)
    forest_seeded = seeded.copy()
    forest_lowest = lowest.copy()
    is_kept = np.zeros(one.size, np.bool_)
    for e in range(one.size):
        a = find(certain, one[e])
        b = find(certain, other[e])
        if a == b:
            continue
        ra = find(forest, a)
        rb = find(forest, b)
        is_same = height[e] == 0
        if ra == rb and not is_same:
            continue
        h = np.int64(height[e]) - 1
        is_first_a = is_lower(height[e], place[e], out_height[a], out_place[a])
        is_first_b = is_lower(height[e], place[e], out_height[b], out_place[b])
        if is_same:
            is_certain = True
        elif has_seeds:
            if forest_seeded[ra] and forest_seeded[rb]:
                continue
            is_certain = (is_first_a and not seeded[a]) or (is_first_b and not seeded[b])
        else:
            if h - forest_lowest[ra] >= depth and h - forest_lowest[rb] >= depth:
                continue
            is_certain = (is_first_a and h - lowest[a] < depth) or (
                is_first_b and h - lowest[b] < depth
            )
        if is_certain:
            if b < a:
                a, b = b, a
            certain[b] = a
            seeded[a] |= seeded[b]
            lowest[a] = min(lowest[a], lowest[b])
            if is_lower(out_height[b], out_place[b], out_height[a], out_place[a]):
                out_height[a], out_place[a] = out_height[b], out_place[b]
        else:
            is_kept[e] = True
            if is_first_a:
                out_height[a], out_place[a] = height[e], place[e]
            if is_first_b:
                out_height[b], out_place[b] = height[e], place[e]
        if rb < ra:
            ra, rb = rb, ra
        forest[rb] = ra
        forest_seeded[ra] |= forest_seeded[rb]
        forest_lowest[ra] = min(forest_lowest[ra], forest_lowest[rb])
    for i in range(count):
        certain[i] = find(certain, i)
    return certain, is_kept, seeded, lowest
