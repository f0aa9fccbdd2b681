"""One block of a conversion, on a worker: read its voxels, write its shards."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from ..base.geometry import Shape
from ..base.location import Location
from ..base.stores import open_shards
from ..ledger.block_result import BlockResult
from ..ledger.ownership import check_owner
from ..output.cells import written_block
from ..output.image_spec import ImageSpec
from ..planning.blocks import BlockPlan
from ..volume.volume import VolumeSource, open_volume


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionJob:
    """Everything a worker needs to do any block; small, and the same for all blocks."""

    source: VolumeSource
    output: Location
    run_token: str
    plan: BlockPlan
    image: ImageSpec


def convert_block(job: ConversionJob, index: Shape) -> BlockResult:
    """Copy one block to the output. Idempotent: a retry writes the same.

    Raises RunError if another run has taken the output over.
    """
    start = time.perf_counter()
    core = job.plan.block(index).core
    czyx = open_volume(job.source).read(core)
    read = time.perf_counter()
    check_owner(job.output, job.run_token)
    path = job.image.level_path(0)
    array = open_shards(job.output, path, token=job.run_token)
    channels = (slice(None),) if "c" in job.image.axes else ()
    first = 3 - (array.ndim - len(channels))
    values = czyx if channels else czyx[0]
    array[channels + core.slices[first:]] = np.squeeze(
        values.astype(array.dtype, copy=False), tuple(range(len(channels), len(channels) + first))
    )
    digest = written_block(
        array, path, core=core, block=job.plan.core, channels="c" in job.image.axes
    )
    return BlockResult(
        index=index,
        voxels=core.voxels,
        bytes_read=czyx.nbytes,
        bad_voxels=0,
        class_voxels=(),
        seconds={"read": read - start, "write": time.perf_counter() - read},
        digests=(digest,),
    )
