"""One block, on a worker: read its outer box, cut tiles, predict, keep the core, write one shard.

A worker runs a few blocks at once: while one uses the device, another reads and another writes.
Dask's Fine Performance Metrics and the report show the time of each stage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...base.geometry import Box, Shape
from ...base.location import Location
from ...base.stores import open_shards
from ...base.tile_request import StoredPlanes
from ...ledger.block_result import BlockResult
from ...ledger.ownership import check_owner
from ...models.protocol import Predictor
from ...output.cells import CellDigest, written_block
from ...output.kinds import OutputKind
from ...planning.blocks import BlockPlan
from ...volume.intensity import Intensity
from ...volume.mask import MaskSource
from ...volume.mirror import read_mirrored
from ...volume.volume import VolumeSource, open_volume
from .part_done import PartReport
from .tile import StageClock, TileWork, compute_tile


@dataclass(frozen=True, slots=True)
class OutputArray:
    """One array that blocks write: level 0 of an image."""

    kind: OutputKind
    path: str
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockJob:
    """Everything a worker needs to do any block of a run; small, and the same for all blocks."""

    source: VolumeSource
    output: Location
    run_token: str
    """Unique to the run, so that workers do not reuse open arrays of an overwritten output."""
    plan: BlockPlan
    predictor: Predictor
    intensity: Intensity
    outputs: tuple[OutputArray, ...]
    mask: MaskSource | None = None
    """Voxels outside it are 0 in every output."""
    skip: float | None = None
    """A block whose outer box has this value alone is not computed."""
    report_every_s: float = 1.0
    """Pause between two messages about which part of a block is done."""

    @property
    def tile_work(self) -> TileWork:
        """What the stored voxels of any tile depend on."""
        return TileWork(
            predictor=self.predictor,
            plan=self.plan,
            intensity=self.intensity,
            outputs=tuple((output.kind.name, output.dtype) for output in self.outputs),
        )


def segment_block(job: BlockJob, index: Shape) -> BlockResult:
    """Segment one block of a run and write its shards. Idempotent: a retry writes the same."""
    clock = StageClock()
    core = job.plan.block(index).core
    sink = BlockSink(
        job.outputs, core, len(job.predictor.class_names), part=core.clipped_to(job.plan.computed)
    )
    with clock.stage("read"):
        sink.inside = _inside(job, sink.part)
    tiles = [tile for tile in job.plan.tiles(core) if sink.wants(tile)]
    if not tiles:
        return _skipped(index, 0, clock)
    outer = job.plan.outer_of(tiles, job.predictor.input_shape)
    with clock.stage("read"):
        raw = read_mirrored(open_volume(job.source), outer.shifted(job.plan.origin))
    if job.skip is not None and is_constant(raw, job.skip):
        return _skipped(index, raw.nbytes, clock)
    report = PartReport(
        sink.put, run_token=job.run_token, index=index, pause_s=job.report_every_s,
        voxels=sum(tile.voxels for tile in tiles),
    )  # fmt: skip
    for tile in tiles:
        compute_tile(
            lambda box: raw[(slice(None), *box.relative_to(outer.start).slices)],
            tile,
            report.put,
            work=job.tile_work,
            clock=clock,
            on_share=report.share,
        )
    with clock.stage("write"):
        digests = sink.write(job)
    core_raw = raw[(slice(None), *core.clipped_to(outer).relative_to(outer.start).slices)]
    return BlockResult(
        index=index,
        voxels=core.voxels,
        bytes_read=raw.nbytes,
        bad_voxels=count_bad(core_raw),
        class_voxels=sink.class_voxels(),
        seconds=clock.seconds,
        digests=digests,
    )


def _inside(job: BlockJob, part: Box) -> NDArray[np.bool_] | None:
    """Return which voxels (z, y, x) of a box of the output the mask keeps; None: all."""
    return None if job.mask is None else job.mask.inside(part.shifted(job.plan.origin))


def _skipped(index: Shape, bytes_read: int, clock: StageClock) -> BlockResult:
    return BlockResult(
        index=index,
        voxels=0,
        bytes_read=bytes_read,
        bad_voxels=0,
        class_voxels=(),
        seconds=clock.seconds,
        is_skipped=True,
    )


def is_constant(raw: NDArray[Any], value: float) -> bool:
    """Return whether every voxel of every channel has this value; NaN equals itself here."""
    if math.isnan(value):
        return raw.dtype.kind == "f" and bool(np.isnan(raw).all())
    same = raw.dtype.type(value)
    return bool(raw.flat[0] == same and (raw == same).all())


def count_bad(raw: NDArray[Any]) -> int:
    """Return the number of values that are NaN or infinite."""
    if raw.dtype.kind != "f":
        return 0
    return int(raw.size - np.count_nonzero(np.isfinite(raw)))


class BlockSink:
    """Collects the tiles of one block in the dtypes of the output, then writes each shard once.

    part: what is computed of the core, by default all of it. The rest stays 0.
    """

    def __init__(
        self,
        outputs: tuple[OutputArray, ...],
        core: Box,
        classes: int,
        *,
        part: Box | None = None,
    ) -> None:
        self._outputs = outputs
        self._core = core
        self.part = core if part is None else part
        self.inside: NDArray[np.bool_] | None = None
        """Which voxels (z, y, x) of the part are kept; the others stay 0. None: all."""
        self._classes = np.zeros(core.shape, np.uint8)
        self._class_count = classes
        self._stored: list[NDArray[Any]] = [
            np.zeros((*output.kind.channels(classes), *core.shape), output.dtype)
            for output in outputs
        ]

    def wants(self, tile: Box) -> bool:
        """Return whether a tile has a voxel that is kept."""
        kept = tile.clipped_to(self.part)
        return bool(kept.voxels) and bool(np.any(self._kept(kept)))

    def _kept(self, box: Box) -> NDArray[np.bool_] | Literal[True]:
        if self.inside is None:
            return True
        return self.inside[box.relative_to(self.part.start).slices]

    def put(self, box: Box, planes: StoredPlanes) -> None:
        """Take what is stored of the voxels of a box, those that are in the part."""
        kept = box.clipped_to(self.part)
        source = kept.relative_to(box.start).slices
        place = kept.relative_to(self._core.start).slices
        self._classes[place] = planes.classes_zyx[source]
        is_kept = self._kept(kept)
        for output, stored, values in zip(self._outputs, self._stored, planes.outputs, strict=True):
            channels = (slice(None),) * output.kind.per_class
            np.copyto(stored[channels + place], values[channels + source], where=is_kept)

    def class_voxels(self) -> tuple[int, ...]:
        """Return the number of voxels of each class, of those that are kept."""
        classes = self._classes[self.part.relative_to(self._core.start).slices]
        kept = classes.ravel() if self.inside is None else classes[self.inside]
        return tuple(np.bincount(kept, minlength=self._class_count).tolist())

    def write(self, job: BlockJob) -> tuple[CellDigest, ...]:
        """Write the block's core to every output array; no other task writes its shards.

        Returns the digests of what is stored. Raises RunError if another run has taken the output
        over.
        """
        check_owner(job.output, job.run_token)
        digests = []
        for output, stored in zip(self._outputs, self._stored, strict=True):
            array = open_shards(job.output, output.path, token=job.run_token)
            write_core(array, self._core, stored)
            digests.append(
                written_block(
                    array,
                    output.path,
                    core=self._core,
                    block=job.plan.core,
                    channels=output.kind.per_class,
                )
            )
        return tuple(digests)


def write_core(array: Any, core: Box, stored: NDArray[Any]) -> None:
    """Write voxels (z, y, x) or (c, z, y, x) to their core; an array with axes y x has no z."""
    channel_axes = stored.ndim - 3
    spatial_axes = array.ndim - channel_axes
    if spatial_axes == 2:
        stored = stored.squeeze(axis=channel_axes)
    array[(slice(None),) * channel_axes + core.slices[3 - spatial_axes :]] = stored
