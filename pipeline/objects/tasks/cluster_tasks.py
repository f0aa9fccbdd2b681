"""What the workers do to agglomerate objects, once they have names.

::

    touch    block    labels of fragments, names -> pairs of objects that touch
    cluster  group    pairs of the children -> merges, pairs that are left
    rename   block    names, merges of the groups around the block -> names of clusters
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ...base.geometry import Shape
from ...ledger.ownership import check_owner
from ..clusters.adjacency import Adjacency, Names
from ..clusters.clusters import (
    ClusterState,
    Merges,
    Outward,
    clustered,
    merge_clusters,
    plane_of,
    state_of_block,
)
from ..clusters.touching import adjacency_across, named
from ..fragments.measures import Records
from ..merging.link import BlockGraph
from .intermediates import file_name
from .tasks import CLUSTERED, GRAPHS, TOUCHING, ObjectsJob, names_at

MERGES: Final = "merges"


def clusters_at(level: int) -> str:
    """Return the stage of the states of clusters at a level of the tree."""
    return f"clusters/{level}"


def touch_block(job: ObjectsJob, index: Shape) -> int:
    """Store which objects touch in a block, and across its faces towards higher indices."""
    files = job.files
    graph = files.get(GRAPHS, file_name(index), BlockGraph)
    records = files.get(names_at(0), file_name(index), Records)
    names = _by_label(records)
    found = [named(files.get(TOUCHING, file_name(index), Adjacency), names)]
    outward = {}
    for direction, other in job.tree.neighbours(index):
        if sum(map(abs, direction)) != 1 or (direction[0] and job.method.per_slice):
            continue
        axis = next(axis for axis in range(3) if direction[axis])
        side = direction[axis]
        face = graph.faces[axis, side]
        behind = np.empty(0, np.uint64)
        if side > 0:
            beyond = files.get(GRAPHS, file_name(other), BlockGraph).faces[axis, -side]
            their = _by_label(files.get(names_at(0), file_name(other), Records))
            found.append(adjacency_across(plane_of(face, names), plane_of(beyond, their)))
            behind = _present(their[beyond.labels])
        outward[axis, side] = Outward(own=_present(names[face.labels]), behind=behind)
    adjacency = Adjacency.merged(found)
    adjacency = adjacency.taken(adjacency.low > 0)  # not with background
    check_owner(job.output, job.run_token)
    files.put(clusters_at(0), file_name(index), state_of_block(adjacency, records, outward))
    return len(adjacency)


def cluster_group(job: ObjectsJob, level: int, group: Shape) -> int:
    """Merge the clusters of a group's children as far as the group decides; return how many."""
    files, method = job.files, job.method
    assert method.agglomerate != "none"
    children = {
        child: files.get(clusters_at(level - 1), file_name(child), ClusterState)
        for child in job.tree.children(level, group)
    }
    state, merges = merge_clusters(
        children, kind=method.agglomerate, threshold=method.merge_below(job.scores.highest)
    )
    check_owner(job.output, job.run_token)
    files.put(f"{MERGES}/{level}", file_name(group), merges)
    files.put(clusters_at(level), file_name(group), state)  # last: it states that all is written
    return len(merges.merges_from)


def rename_block(job: ObjectsJob, index: Shape) -> int:
    """Store the records of the clusters to which a block's fragments belong."""
    files, merges, group = job.files, [], index
    for level in range(1, job.tree.depth + 1):
        group = job.tree.parent(group)
        merges.append(files.get(f"{MERGES}/{level}", file_name(group), Merges))
    records = clustered(files.get(names_at(0), file_name(index), Records), merges)
    check_owner(job.output, job.run_token)
    files.put(CLUSTERED, file_name(index), records)
    return len(records)


def _by_label(records: Records) -> Names:
    return np.concatenate((np.zeros(1, np.uint64), records.names))


def _present(names: Names) -> Names:
    distinct = np.unique(names)
    return distinct[distinct > 0]
