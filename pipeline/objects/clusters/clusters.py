"""Agglomeration across blocks: clusters of objects that touch, group by group up the tree.

A group knows all faces of an object unless the object touches another group. It merges what it can
(see agglomeration.py), and hands the rest on::

    block: pairs that touch, names on its faces ──> group of blocks ──> … ──> all
                                                      │ merges             │ merges
    name of a fragment ───────────────────────────────┴────────────────────┴──> its cluster
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

import numpy as np
from numpy.typing import NDArray

from ...base.geometry import Shape
from ..definition.method import Agglomerate
from ..fragments.faces import Face
from ..fragments.measures import Records
from .adjacency import Adjacency, Names, renamed
from .agglomeration import Agglomerated, agglomerate, threshold_merges
from .touching import LabelledPlane

_NOTHING: Final = Records(
    names=np.empty(0, np.uint64), voxels=np.empty(0, np.int64), at_edge=np.empty(0, np.bool_)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outward:
    """Names on a face of a group towards another group, and behind it in the next block.

    behind: empty for faces at the low end of an axis; pairs across a face belong to the block on
    its low side.
    """

    own: Names
    behind: Names


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterState:
    """What a group hands on: pairs that are not decided, and the objects that occur in them.

    records: of objects; several groups may have one, each with its whole record. closed: for
    ``threshold``, whose objects stay basins, the sums of the closed basins of each cluster that an
    open basin may enlarge; they are in no other group. outward: by axis and side. links_from,
    links_to: see agglomeration.Joined.
    """

    adjacency: Adjacency
    records: Records
    closed: Records
    outward: Mapping[tuple[int, int], Outward]
    links_from: Names
    links_to: Names


@dataclass(frozen=True, slots=True, kw_only=True)
class Merges:
    """What a group merged: names, the names of their clusters, and the records of these."""

    merges_from: Names
    merges_to: Names
    records: Records


def state_of_block(
    adjacency: Adjacency, records: Records, outward: Mapping[tuple[int, int], Outward]
) -> ClusterState:
    """Return the state of a block. records: of its fragments; several may have one name."""
    none = np.empty(0, np.uint64)
    return ClusterState(
        adjacency=adjacency, records=_distinct([records]), closed=_NOTHING, outward=outward,
        links_from=none, links_to=none,
    )  # fmt: skip


def plane_of(face: Face, names: Names) -> LabelledPlane:
    """Return a face of a block as agglomeration takes it; names: by label, from label 0."""
    return LabelledPlane(labels=face.labels, scores=face.heights, names=names)


def merge_clusters(
    children: Mapping[Shape, ClusterState], *, kind: Agglomerate, threshold: float
) -> tuple[ClusterState, Merges]:
    """Return the state of a group, and what it merged. children: by their index."""
    outward = dict(_outward(children))
    open_names = np.unique(
        np.concatenate(
            [np.empty(0, np.uint64), *(names for one in outward.values()
                                       for names in (one.own, one.behind))]
        )
    )  # fmt: skip
    adjacency = Adjacency.merged(child.adjacency for child in children.values())
    links_from = np.concatenate([child.links_from for child in children.values()])
    links_to = np.concatenate([child.links_to for child in children.values()])
    records = _distinct([child.records for child in children.values()])
    match kind:
        case "mean":
            found = agglomerate(adjacency, threshold=threshold, open_names=open_names)
            records, closed = _merged(records, found), _NOTHING
            merged = records.taken(np.isin(records.names, found.merges_to))
        case "threshold":
            joined = threshold_merges(
                adjacency, threshold=threshold, open_names=open_names, links=(links_from, links_to)
            )
            found, links_from, links_to = joined, joined.links_from, joined.links_to
            before = _joined([child.closed for child in children.values()])
            records, closed, merged = _merged_basins(records, before, found, open_names)
        case "none":
            raise AssertionError("nothing is merged")
        case _:
            assert_never(kind)
    return (
        ClusterState(
            adjacency=found.adjacency, records=records, closed=closed, outward=outward,
            links_from=links_from, links_to=links_to,
        ),
        Merges(merges_from=found.merges_from, merges_to=found.merges_to, records=merged),
    )  # fmt: skip


def _merged_basins(
    basins: Records, closed: Records, found: Agglomerated, open_names: Names
) -> tuple[Records, Records, Records]:
    """Return the open basins, the closed parts of clusters with open ones, and all that changed.

    basins: of all children, each once. closed: sums of the children. A basin that is closed now is
    added to its cluster, here and nowhere else. The third are whole clusters, of all basins that
    are known here: those that something was merged into, and those that a child had begun, whose
    name other children may know as that of a basin alone.
    """
    is_open = np.isin(basins.names, open_names)
    opened = basins.taken(is_open)
    begun = renamed(closed.names, found.merges_from, found.merges_to)
    sums = _merged(_joined([closed, basins.taken(~is_open)]), found)
    whole = _merged(_joined([sums, opened]), found)
    is_changed = np.isin(whole.names, np.concatenate([begun, found.merges_to]))
    grows = renamed(opened.names, found.merges_from, found.merges_to)
    return opened, sums.taken(np.isin(sums.names, grows)), whole.taken(is_changed)


def clustered(records: Records, merges: Iterable[Merges]) -> Records:
    """Return the records of fragments' objects after the merges of each level, from the lowest."""
    for one in merges:
        names = renamed(records.names, one.merges_from, one.merges_to)
        if not len(one.records):
            continue
        at = np.minimum(np.searchsorted(one.records.names, names), len(one.records) - 1)
        is_merged = one.records.names[at] == names
        records = records.where(is_merged, one.records.taken(at))
    return records


def _outward(
    children: Mapping[Shape, ClusterState],
) -> Iterator[tuple[tuple[int, int], Outward]]:
    """Yield the faces of the group: those of the children at its outside."""
    for axis in range(3):
        places = [index[axis] for index in children]
        for side, outermost in ((-1, min(places)), (1, max(places))):
            found = [
                child.outward[axis, side]
                for index, child in children.items()
                if index[axis] == outermost and (axis, side) in child.outward
            ]
            if found:
                yield (
                    (axis, side),
                    Outward(
                        own=np.unique(np.concatenate([one.own for one in found])),
                        behind=np.unique(np.concatenate([one.behind for one in found])),
                    ),
                )


def _distinct(parts: Sequence[Records]) -> Records:
    """Return the records of all objects, ascending, each once; records of one object are equal."""
    whole = _joined(parts)
    distinct, first = np.unique(whole.names, return_index=True)
    return whole.taken(first[distinct > 0])


def _joined(parts: Sequence[Records]) -> Records:
    """Return the records of all parts, one after the other."""
    return Records(
        names=np.concatenate([part.names for part in parts]),
        voxels=np.concatenate([part.voxels for part in parts]),
        at_edge=np.concatenate([part.at_edge for part in parts]),
    )


def _merged(records: Records, found: Agglomerated) -> Records:
    """Return the records after objects were merged: sums over the members of each cluster."""
    names = renamed(records.names, found.merges_from, found.merges_to)
    clusters, root = np.unique(names, return_inverse=True)
    voxels = np.zeros(len(clusters), np.int64)
    np.add.at(voxels, root, records.voxels)
    at_edge: NDArray[np.bool_] = np.zeros(len(clusters), np.bool_)
    np.logical_or.at(at_edge, root, records.at_edge)
    return Records(names=clusters, voxels=voxels, at_edge=at_edge)
