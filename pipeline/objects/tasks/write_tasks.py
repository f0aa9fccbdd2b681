"""What the workers do once objects have names: background in blocks, final ids, rows.

Both need the objects one voxel around a block: they come from the faces of its neighbours.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...base.geometry import Box, Shape
from ...base.stores import open_shards
from ...ledger.block_result import BlockResult
from ...ledger.ownership import check_owner
from ...output.cells import written_block
from ..fragments.components import label_components
from ..fragments.faces import Face
from ..fragments.labelling import block_of_components
from ..fragments.measures import Records
from ..merging.holes import filled_names, with_touched
from ..merging.link import BlockGraph
from ..table.block_rows import rows_of_block, table_outer
from .ids import IdIndex, Names
from .intermediates import file_name
from .tasks import GRAPHS, LABELS, NUMBERS, ROWS, BlockLabels, ObjectsJob, names_at

Values: TypeAlias = NDArray[np.uint32] | NDArray[np.uint64]
"""Ids or names: uint32 where ids fit, for half the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """Values by label of a block's fragments, 0 for label 0; holes: by label of background."""

    objects: Values
    holes: Values | None = None


def label_background(job: ObjectsJob, index: Shape) -> int:
    """Find the components of background of a block, and the objects that they touch."""
    core, shape = job.plan.block(index).core, job.plan.shape
    names, around = values_around(job, index, partial(_kept_names, job))
    background = job.of_background
    labels, count = label_components(names == 0, background.method.offsets)
    block = block_of_components(labels, count, core=core, method=background.method, shape=shape)
    halo = np.zeros(tuple(n + 2 for n in core.shape), np.uint64)
    outer = table_outer(core, shape)
    halo[outer.relative_to(tuple(a - 1 for a in core.start)).slices] = around
    graph = BlockGraph(
        records=with_touched(block.records, labels, halo, per_slice=job.method.per_slice),
        seeded=block.seeded, lowest=block.lowest, edges=block.edges, faces=block.faces,
    )  # fmt: skip
    check_owner(job.output, job.run_token)
    background.files.put(LABELS, file_name(index), BlockLabels(labels=labels))
    background.files.put(GRAPHS, file_name(index), graph)
    return count


def write_block(job: ObjectsJob, ids: IdIndex, index: Shape) -> BlockResult:
    """Write the final ids of a block, and the rows of its objects for the table."""
    begun = time.perf_counter()
    core = job.plan.block(index).core
    own, around = values_around(job, index, partial(_ids, job, ids))
    scores = job.scores.read(core)
    read = time.perf_counter()
    rows = rows_of_block(
        around, core=core, shape=job.plan.shape, scores_zyx=scores,
        intensities_czyx=job.intensity.read(core) if job.intensity else None,
    )  # fmt: skip
    counted = time.perf_counter()
    check_owner(job.output, job.run_token)
    job.files.put(ROWS, file_name(index), rows)
    array = open_shards(job.output, job.path, token=job.run_token)
    first = 3 - len(job.axes)
    array[core.slices[first:]] = own.reshape(own.shape[first:])
    digest = written_block(array, job.path, core=core, block=job.plan.core, channels=False)
    covered = int(np.count_nonzero(own))
    return BlockResult(
        index=index, voxels=core.voxels, bytes_read=scores.nbytes, bad_voxels=0,
        class_voxels=(own.size - covered, covered),
        seconds={
            "read": read - begun, "count": counted - read, "write": time.perf_counter() - counted,
        },
        digests=(digest,),
    )  # fmt: skip


def values_around(
    job: ObjectsJob, index: Shape, lookup_of: Callable[[Shape], Lookup]
) -> tuple[Values, Values]:
    """Return the values of a block's voxels, and the same with one voxel around it.

    lookup_of: of a block. The second array is that of ``table_outer``; its edges and corners, which
    belong to diagonal neighbours, are 0.
    """
    core = job.plan.block(index).core
    outer = table_outer(core, job.plan.shape)
    inside = core.relative_to(outer.start)
    lookup = lookup_of(index)
    around = np.zeros(outer.shape, lookup.objects.dtype)
    own = lookup.objects[job.files.get(LABELS, file_name(index), BlockLabels).labels]
    if lookup.holes is not None:
        background = job.of_background.files.get(LABELS, file_name(index), BlockLabels).labels
        own = np.where(background > 0, lookup.holes[background], own)
    around[inside.slices] = own
    for direction, other in job.tree.neighbours(index):
        if sum(map(abs, direction)) == 1:
            _put_face(around, inside, direction, _face(job, other, direction, lookup_of(other)))
    return own, around


def _face(job: ObjectsJob, block: Shape, direction: Shape, lookup: Lookup) -> Values:
    """Return the values of the face of a neighbour in ``direction`` that looks to the block."""
    axis = next(axis for axis in range(3) if direction[axis])

    def labels(of: ObjectsJob) -> NDArray[np.int32]:
        part = f"faces/{axis},{-direction[axis]}"
        return of.files.get(GRAPHS, file_name(block), Face, part=part).labels

    values = lookup.objects[labels(job)]
    if lookup.holes is not None:
        background = labels(job.of_background)
        values = np.where(background > 0, lookup.holes[background], values)
    return values


def _put_face(around: Values, inside: Box, direction: Shape, values: Values) -> None:
    place = tuple(
        slice(a, b) if d == 0 else (slice(a - 1, a) if d < 0 else slice(b, b + 1))
        for a, b, d in zip(inside.start, inside.stop, direction, strict=True)
    )
    around[place] = values


def _kept_names(job: ObjectsJob, block: Shape) -> Lookup:
    records = job.files.get(job.final_names, file_name(block), Records)
    return Lookup(
        objects=_from_label_0(np.where(job.kept.keeps(records), records.names, np.uint64(0)))
    )


def _ids(job: ObjectsJob, ids: IdIndex, block: Shape) -> Lookup:
    """Return the final ids by label of a block."""
    files = job.files

    def numbered(names: NDArray[np.uint64]) -> Values:
        distinct, place = np.unique(names, return_inverse=True)
        found = ids.ids(distinct, lambda part: files.get(NUMBERS, part, Names).names)
        return found.astype(ids.dtype)[place]

    objects = numbered(files.get(job.final_names, file_name(block), np.ndarray, part="names"))
    if not job.fills_holes:
        return Lookup(objects=_from_label_0(objects))
    background = job.of_background.files.get(names_at(0), file_name(block), Records)
    return Lookup(
        objects=_from_label_0(objects), holes=_from_label_0(numbered(filled_names(background)))
    )


def _from_label_0(values: Values) -> Values:
    return np.concatenate((np.zeros(1, values.dtype), values))
