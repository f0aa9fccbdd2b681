"""Merges groups of blocks: joins their fragments as far as the edges inside the group decide.

The same two rules as inside a block (see forest.py), on the graph of the fragments that are left.
A group's state holds what the groups around it may still change; all else is finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ...base.compiled import compiled
from ..definition.method import Rule
from ..fragments.faces import lowest_edges
from ..fragments.fragments import Edges
from ..fragments.joining import LEFT, PART, TREE, Array, Sets, decide, find, new_sets
from ..fragments.measures import Records

T = TypeVar("T")


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


def merge(children: Sequence[GroupState], rule: Rule) -> tuple[GroupState, tuple[Settled, ...]]:
    """Return the state of a group of ``children``, and what became of their nodes."""
    joined = _concatenated(children)
    edges, ways_out = _resolved(joined)
    count = len(joined.records)
    parts = new_sets(joined.seeded, joined.lowest, kind=PART)
    _note_lowest_out(parts, ways_out)
    order = np.lexsort((edges.place, edges.height))
    ends = np.stack((edges.one[order], edges.other[order]))
    root, is_kept = _contract(
        ends, edges.height[order], edges.place[order], parts,
        new_sets(joined.seeded, joined.lowest, kind=TREE), rule.depth,
    )  # fmt: skip
    kept = order[is_kept]
    is_open = np.zeros(count, np.bool_)
    for ends in (edges.one[kept], edges.other[kept], ways_out.node):
        is_open[root[ends]] = True
    records = joined.records.joined(root)
    number = np.full(count, -1, np.int64)
    opened = np.flatnonzero(is_open)
    number[opened] = np.arange(len(opened))
    one, other = number[root[edges.one[kept]]], number[root[edges.other[kept]]]
    state = GroupState(
        records=records.taken(opened),
        seeded=parts.of["seeded"][opened],
        lowest=parts.of["lowest"][opened],
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
    finished.names[~parts.of["seeded"][root]] = 0
    return state, _per_child(children, number[root], finished)


def _concatenated(children: Sequence[GroupState]) -> GroupState:
    """Return the children's graphs side by side, their nodes numbered one after the other."""
    starts = _starts(children)
    return GroupState(
        records=_side_by_side(Records, [child.records for child in children]),
        seeded=np.concatenate([child.seeded for child in children]),
        lowest=np.concatenate([child.lowest for child in children]),
        edges=_side_by_side(Edges, [child.edges for child in children], one=starts, other=starts),
        ways_out=_side_by_side(WaysOut, [child.ways_out for child in children], node=starts),
    )


def _starts(children: Sequence[GroupState]) -> list[int]:
    counts = [len(child.records) for child in children]
    return [sum(counts[:number]) for number in range(len(counts))]


def _side_by_side(kind: type[T], parts: Sequence[T], **starts: Sequence[int]) -> T:
    """Return columns one below the other. starts: what is added to the numbers of nodes."""
    columns = {
        name: np.concatenate(
            [getattr(part, name) + start
             for part, start in zip(parts, starts[name], strict=True)]
            if name in starts
            else [getattr(part, name) for part in parts]
        )
        for name in kind.__dataclass_fields__  # type: ignore[attr-defined]
    }  # fmt: skip
    return kind(**columns)


def _resolved(joined: GroupState) -> tuple[Edges, WaysOut]:
    """Return all edges inside the group, those between its children included, and the others.

    A fragment has an edge out exactly if the fragment on the other side has it too, so the names of
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


def _note_lowest_out(parts: Sets, ways_out: WaysOut) -> None:
    """Note the lowest edge of each node that leaves the group."""
    order = np.lexsort((ways_out.place, ways_out.height, ways_out.node))
    node = ways_out.node[order]
    is_first = np.ones(len(node), np.bool_)
    is_first[1:] = node[1:] != node[:-1]
    first = order[is_first]
    parts.of["way_height"][ways_out.node[first]] = ways_out.height[first]
    parts.of["way_place"][ways_out.node[first]] = ways_out.place[first]


def _per_child(
    children: Sequence[GroupState], node: NDArray[np.int64], finished: Records
) -> tuple[Settled, ...]:
    starts = _starts(children)
    stops = [*starts[1:], len(node)]
    return tuple(
        Settled(node=node[a:b], records=finished.taken(np.arange(a, b)))
        for a, b in zip(starts, stops, strict=True)
    )


@compiled
def _contract(
    ends: Array, height: Array, place: Array, certain: Sets, forest: Sets, depth: int
) -> tuple[Array, Array]:
    """Decide on sorted edges; return the root of each node, and which edges are left."""
    part, parts = certain
    tree, trees = forest
    is_left = np.zeros(height.size, np.bool_)
    for e in range(height.size):
        edge = (ends[0, e], ends[1, e], np.int64(height[e]), place[e])
        is_left[e] = decide(edge, part, parts, tree, trees, depth) == LEFT
    roots = np.empty(part.size, np.int64)
    for node in range(roots.size):
        roots[node] = find(part, node)
    return roots, is_left
