"""What the workers do: one task per block or group and stage, each writing files of its own.

::

    label    block    scores -> labels of fragments, their graph
    merge    group    graphs of blocks, states of groups -> state of the group above, and what
                      became of the nodes of its children
    name     group    names of the parent's nodes -> names of the group's nodes, down to the blocks
    (touch, cluster, rename: agglomeration, see cluster_tasks.py)
    number   layer    names of objects -> parts of the ascending list of all names
    (holes   block    labels, names -> labels of background, merged and named in the same way)
    write    block    labels, names, scores -> final ids, rows of the table (write_tasks.py)
    sweep    layer    rows of its blocks, rows carried to it -> rows that are done, rows carried on
    table    once     rows of all objects -> objects.parquet (row_tasks.py)

Each is a pure function of the files that it reads, and idempotent.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...base.geometry import Box, Shape
from ...base.location import Location
from ...ledger.block_result import BlockResult
from ...ledger.ownership import check_owner
from ...planning.blocks import BlockPlan
from ...volume.volume import VolumeSource, open_volume
from ..clusters.adjacency import Adjacency
from ..clusters.touching import adjacency_along_edges, adjacency_of
from ..definition.method import Method
from ..definition.scores import Scores
from ..fragments.labelled_block import outer_box
from ..fragments.labelling import label_block
from ..fragments.measures import Records
from ..merging.groups import Tree
from ..merging.holes import background_method
from ..merging.link import BlockGraph, linked
from ..merging.merge import GroupState, Settled, merge
from .filters import Filter
from .ids import NAMES_PER_PART, LayerNames, Names, owned, part_name
from .intermediates import Intermediates, file_name
from .since import INPUTS, BlockInput, input_of, is_taken_over

LABELS: Final = "labels"
GRAPHS: Final = "graphs"
NUMBERS: Final = "numbers"
ROWS: Final = "rows"
TOUCHING: Final = "touching"
CLUSTERED: Final = "clustered"


def groups_at(level: int) -> str:
    """Return the stage of the groups' states at a level of the tree."""
    return f"groups/{level}"


def settled_at(level: int) -> str:
    """Return the stage of what became of the nodes of a level."""
    return f"settled/{level}"


def names_at(level: int) -> str:
    """Return the stage of the final records of the nodes of a level; of 0, the fragments'."""
    return f"names/{level}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLabels:
    """The labels of a block's fragments."""

    labels: NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intensity:
    """Grey values of the same voxels, which the table describes. start: of the first one."""

    source: VolumeSource
    start: Shape

    def read(self, box: Box) -> NDArray[Any]:
        """Return the grey values (c, z, y, x) of a box of the labels."""
        return open_volume(self.source).read(box.shifted(self.start))


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectsJob:
    """Everything a worker needs for any task; small, and the same for all."""

    scores: Scores
    output: Location
    run_token: str
    plan: BlockPlan
    method: Method
    kept: Filter
    path: str
    """Of the array of labels."""
    axes: str
    intensity: Intensity | None = None
    fills_holes: bool = False
    reused: Location | None = None
    """Another output with the same labelling, whose intermediate results are used."""
    since: Location | None = None
    """An output of earlier scores: blocks whose scores are the same are not labelled again."""
    folder: str = ""
    """Of the intermediate results: those of the background have their own."""

    @property
    def files(self) -> Intermediates:
        """The intermediate results."""
        return Intermediates(self.output, self.folder, self.reused)

    @property
    def labelled_stages(self) -> tuple[str, ...]:
        """The stages of which labelling a block writes a file, the last one at the end."""
        return (LABELS, GRAPHS) if self.method.agglomerate == "none" else (LABELS, TOUCHING, GRAPHS)

    @property
    def final_names(self) -> str:
        """The stage of the records of the objects to which a block's fragments belong."""
        return names_at(0) if self.method.agglomerate == "none" else CLUSTERED

    @property
    def of_background(self) -> ObjectsJob:
        """The same for the components of background."""
        return replace(
            self, method=background_method(self.method), folder="background/", reused=None,
            since=None,
        )  # fmt: skip

    @property
    def tree(self) -> Tree:
        """The tree of merges."""
        return Tree(grid=self.plan.grid)


def label(job: ObjectsJob, index: Shape) -> BlockResult:
    """Find the fragments of a block."""
    begun = time.perf_counter()
    core = job.plan.block(index).core
    shape = job.plan.shape
    outer = outer_box(core, job.method, shape)
    scores, within = job.scores.read_weights(outer), job.scores.is_segmented(outer)
    given, read = input_of(scores, within, core=core, shape=shape), time.perf_counter()
    if _is_taken_over(job, index, given):
        return _labelled(index, core, scores, read=read - begun, is_copied=True)
    block = label_block(scores, core=core, method=job.method, shape=shape, within=within)
    done = time.perf_counter()
    graph = BlockGraph(
        records=block.records, seeded=block.seeded, lowest=block.lowest, edges=block.edges,
        faces=block.faces,
    )  # fmt: skip
    check_owner(job.output, job.run_token)
    job.files.put(INPUTS, file_name(index), given)
    job.files.put(LABELS, file_name(index), BlockLabels(labels=block.labels))
    if job.method.agglomerate != "none":
        inside: Any = (..., *core.relative_to(outer.start).slices)
        touching = _touching(block.labels, scores[inside], job.method)
        job.files.put(TOUCHING, file_name(index), touching)
    job.files.put(GRAPHS, file_name(index), graph)
    written = time.perf_counter() - done
    return _labelled(index, core, scores, read=read - begun, label=done - read, write=written)


def _is_taken_over(job: ObjectsJob, index: Shape, given: BlockInput) -> bool:
    if job.since is None:
        return False
    check_owner(job.output, job.run_token)
    earlier = Intermediates(job.since)
    return is_taken_over(earlier, index, given, to=job.files, stages=job.labelled_stages)


def _labelled(
    index: Shape, core: Box, scores: NDArray[Any], *, is_copied: bool = False, **seconds: float
) -> BlockResult:
    return BlockResult(
        index=index, voxels=core.voxels, bytes_read=scores.nbytes, bad_voxels=0, class_voxels=(),
        seconds=seconds, is_copied=is_copied,
    )  # fmt: skip


def _touching(labels: NDArray[np.int32], scores: NDArray[Any], method: Method) -> Adjacency:
    """Return which fragments of a block touch. scores: of its core; see Scores.read_weights."""
    if not method.edge_axes:
        return adjacency_of(labels, scores, per_slice=method.per_slice)
    heights = np.iinfo(scores.dtype).max - scores
    return adjacency_along_edges(labels, dict(zip(method.edge_axes, heights, strict=True)))


def merge_group(job: ObjectsJob, level: int, group: Shape) -> int:
    """Merge the children of a group; return how many nodes are left."""
    files, children = job.files, job.tree.children(level, group)
    if level == 1:
        states = _linked_blocks(job, children)
    else:
        states = [files.get(groups_at(level - 1), file_name(c), GroupState) for c in children]
    state, settled = merge(states, job.method.rule)
    check_owner(job.output, job.run_token)
    for child, one in zip(children, settled, strict=True):
        files.put(settled_at(level - 1), file_name(child), one)
    files.put(groups_at(level), file_name(group), state)  # last: it states that all is written
    return len(state.records)


def _linked_blocks(job: ObjectsJob, blocks: tuple[Shape, ...]) -> list[GroupState]:
    offsets = job.method.offsets
    reached = set(map(tuple, offsets.tolist()))
    graphs: dict[Shape, BlockGraph] = {}

    def graph(index: Shape) -> BlockGraph:
        if index not in graphs:
            graphs[index] = job.files.get(GRAPHS, file_name(index), BlockGraph)
        return graphs[index]

    states = []
    for index in blocks:
        around = {d: i for d, i in job.tree.neighbours(index) if d in reached}
        states.append(
            linked(
                graph(index),
                {direction: graph(one) for direction, one in around.items()},
                box=job.plan.block(index).core,
                boxes={direction: job.plan.block(one).core for direction, one in around.items()},
                offsets=offsets,
                shape=job.plan.shape,
            )
        )
    return states


def name_group(job: ObjectsJob, level: int, group: Shape) -> int:
    """Write the final records of a group's nodes (of level 0, of a block's fragments)."""
    files, name = job.files, file_name(group)
    settled = files.get(settled_at(level), name, Settled)
    records = settled.records
    if (settled.node >= 0).any():
        above = files.get(names_at(level + 1), file_name(job.tree.parent(group)), Records)
        inherited = above.taken(np.maximum(settled.node, 0))
        records = records.where(settled.node >= 0, inherited)
    check_owner(job.output, job.run_token)
    files.put(names_at(level), name, records)
    return len(records)


def number_layer(job: ObjectsJob, layer: int) -> LayerNames:
    """Write the ascending list of the kept objects that begin in a layer of blocks."""
    files, found = job.files, []
    _, rows, columns = job.plan.grid
    for y in range(rows):
        for x in range(columns):
            index = (layer, y, x)
            records = files.get(job.final_names, file_name(index), Records)
            records = records.taken(job.kept.keeps(records))
            mine = owned(records, job.plan.block(index).core, job.plan.shape)
            found.append(np.unique(records.names[mine]))
    names = np.sort(np.concatenate(found))
    check_owner(job.output, job.run_token)
    firsts = []
    for number, start in enumerate(range(0, len(names), NAMES_PER_PART)):
        part = names[start : start + NAMES_PER_PART]
        files.put(NUMBERS, part_name(layer, number), Names(names=part))
        firsts.append(int(part[0]))
    return LayerNames(layer=layer, count=len(names), firsts=tuple(firsts))
