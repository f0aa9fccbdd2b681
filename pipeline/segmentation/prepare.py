"""From what a user asks to what would be done: everything is decided and checked, nothing written.

`overtile plan` prints what comes out of here; a run starts from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from ..base.errors import IntensityError, PlanError, VolumeError
from ..base.geometry import Shape
from ..ledger.identity import Job, check_job
from ..ledger.ledger import stored_job
from ..ledger.output_action import OutputAction, choose_output_action
from ..ledger.shares import Share, cut
from ..models.protocol import Predictor
from ..output.image_spec import ImageSpec
from ..output.kinds import OUTPUT_KINDS, SCORES
from ..output.pyramid import LevelJob
from ..planning.blocks import BlockPlan, Region
from ..planning.budget import Budget, Layout, choose_chunk, make_plan, reckon
from ..planning.levels import level_grids
from ..volume.fingerprint import intensity_note, read_sample, same_where_unread
from ..volume.intensity import MEASURED_KINDS, check_record, stated_intensity
from ..volume.volume import VolumeSource, find_volume
from .block import OutputArray
from .request import SegmentRequest

VERSION = version("overtile")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A request with everything decided: what is read, computed and written, and what it costs."""

    request: SegmentRequest
    source: VolumeSource
    predictor: Predictor
    record: Mapping[str, Any]
    plan: BlockPlan
    regions: tuple[Region, ...]
    """Those that this run does: all, or those of its share."""
    share_blocks: tuple[int, ...]
    """How many blocks each share has; one share where the volume is not shared."""
    images: tuple[ImageSpec, ...]
    budget: Budget
    sample_digest: str
    output_action: OutputAction
    """What happens to the output: made where there is nothing, gone on with, or deleted first."""
    notes: tuple[str, ...]

    @property
    def blocks(self) -> int:
        """How many blocks this run does, those that are done already counted in."""
        return sum(map(len, self.regions))

    @property
    def voxels(self) -> int:
        """How many voxels the blocks of this run write."""
        return sum(self.plan.voxels(region) for region in self.regions)

    @property
    def outputs(self) -> tuple[OutputArray, ...]:
        """The arrays that blocks write: level 0 of each image."""
        return tuple(
            OutputArray(OUTPUT_KINDS[image.name], joined_path(image.path, "0"), image.dtype)
            for image in self.images
        )

    def pyramid(self, run_token: str) -> Iterator[LevelJob]:
        """Yield the coarser levels of every image, each made from the one before it."""
        for image in self.images:
            for number in range(1, len(image.shapes)):
                finer, shape = image.shapes[number - 1 : number + 1]
                yield LevelJob(
                    output=self.request.output,
                    run_token=run_token,
                    finer_path=joined_path(image.path, str(number - 1)),
                    path=joined_path(image.path, str(number)),
                    shape=shape,
                    factor=tuple(1 if n == m else 2 for n, m in zip(finer, shape, strict=True)),
                    shard=image.shards[number],
                    chunk=image.chunks[number],
                    reduction=OUTPUT_KINDS[image.name].reduction,
                )

    def job(self, predictor: Predictor) -> Job:
        """Return what identifies the run: everything that changes a voxel of its output."""
        request = self.request
        return Job(
            {
                "input": self.source.metadata_digest,
                "input_sample": self.sample_digest,
                "input_uri": self.source.store.identity,
                "input_path": self.source.path,
                "axes": self.source.axes,
                "channels": self.source.channels,
                "time": self.source.time,
                "weights": predictor.digest,
                "tta": "none",
                **predictor.settings(),
                "normalisation": dict(self.record),
                "block": list(self.plan.core),
                "tile": list(self.plan.tile),
                "halo": list(self.plan.halo.low),
                "divisor": list(self.plan.divisor),
                "engine": request.engine,
                "outputs": list(request.outputs),
                "scores_dtype": request.scores_dtype if "scores" in request.outputs else None,
                "format": request.format,
                "overtile": VERSION,
            }
        )


def prepare(request: SegmentRequest, predictor: Predictor, *, finishing: bool = False) -> Prepared:
    """Return what a run of ``request`` would do. Reads metadata and a few voxels, writes nothing.

    finishing: the run ends an output that was made in shares. Where the output is there from an
    earlier run, block and tile that the user left open are taken from that run's job, so that it
    resumes on another machine too. Raises kinds of OvertileError for whatever a run would refuse
    without asking a worker.
    """
    action = choose_output_action(
        request.output,
        source=request.input,
        share=request.share,
        overwrite=request.overwrite,
        finishing=finishing,
    )
    stored = stored_job(request.output) if action == "resumed" else {}
    source = find_volume(
        request.input,
        level=request.level,
        channel=request.channel,
        time=request.time,
        axes=request.axes,
    )
    _check_channels(source, predictor)
    _check_layers(predictor, allow_seams=request.allow_seams)
    record, notes = _record(request, predictor, source)
    sample = read_sample(source)
    if note := intensity_note(sample, stated_intensity(record, source.dtype), record):
        notes.append(note)
    if sample.unreadable:
        notes.append(f"not all of the input can be read ({sample.unreadable})")
    if source.shape_zyx[0] == 1 and predictor.halo[0]:
        notes.append("the volume has one z and the network is 3-D: it sees the plane, mirrored")
    plan = make_plan(
        source.shape_zyx,
        predictor,
        block=request.block or tuple(stored.get("block", ())) or None,
        tile=request.tile or _stored_tile(request, stored),
        memory_bytes=request.tile_memory_bytes,
    )
    regions = tuple(plan.regions())
    shares = cut(regions, request.share or Share(1, 1))
    images = tuple(_images(request, source, predictor, plan))
    if len(predictor.class_names) > 255:
        raise PlanError(f"{len(predictor.class_names)} classes do not fit uint8: 255 at most")
    budget = reckon(plan, predictor, _layout(source, plan, images, request), regions=len(regions))
    prepared = Prepared(
        request=request,
        source=source,
        predictor=predictor,
        record=record,
        plan=plan,
        regions=shares[request.share.number - 1 if request.share else 0],
        share_blocks=tuple(sum(map(len, share)) for share in shares),
        images=images,
        budget=budget,
        sample_digest=same_where_unread(sample.digest, stored.get("input_sample")),
        output_action=action,
        notes=(*source.notes, *notes),
    )
    if stored:
        check_job(request.output, prepared.job(predictor), stored)
    return prepared


def joined_path(*parts: str) -> str:
    """Return a path inside a Zarr store from its parts, of which any may be empty."""
    return "/".join(part for part in parts if part)


def _stored_tile(request: SegmentRequest, stored: Mapping[str, Any]) -> Shape | None:
    if request.block and list(request.block) != stored.get("block"):
        return None
    return tuple(stored.get("tile", ())) or None


def _check_channels(source: VolumeSource, predictor: Predictor) -> None:
    if source.channel_count == predictor.in_channels:
        return
    advice = "choose some with --channel" if "c" in source.axes else "say --axes if one is c"
    raise VolumeError(
        f"{source.channel_count} channel(s) in the volume (axes {' '.join(source.axes)}, shape "
        f"{source.shape}), the weights take {predictor.in_channels}: {advice}, or take other "
        "weights"
    )


def _check_layers(predictor: Predictor, *, allow_seams: bool) -> None:
    if predictor.tile_dependent_layers and not allow_seams:
        raise PlanError(
            f"the network has layers that look at statistics of the whole tile "
            f"({', '.join(predictor.tile_dependent_layers)}), so tiled would not equal whole: "
            "use a network with batch norm or none, or accept seams with --allow-seams"
        )


def _record(
    request: SegmentRequest, predictor: Predictor, source: VolumeSource
) -> tuple[dict[str, Any], list[str]]:
    asked, trained = request.normalisation, predictor.normalisation
    try:
        record = check_record(asked if asked is not None else trained, source.dtype)
    except IntensityError as error:
        whose = "" if asked is not None else "the weights ask for "
        raise IntensityError(f"{whose}{error}") from error
    notes = []
    if asked is None and trained is None:
        notes.append(
            f"the weights state no normalisation: taken as {record['kind']}; "
            "say --normalisation otherwise"
        )
    elif asked is not None and trained is not None:
        complete = (
            check_record(trained, source.dtype) if trained.get("kind") != "dtype" else trained
        )
        if complete != record:
            notes.append(f"the weights were trained with {complete}, not {record}")
    if record["kind"] in MEASURED_KINDS and "level" in record:
        find_volume(
            request.input, level=record["level"], channel=request.channel, time=request.time,
            axes=request.axes,
        )  # fmt: skip
    return record, notes


def _images(
    request: SegmentRequest, source: VolumeSource, predictor: Predictor, plan: BlockPlan
) -> list[ImageSpec]:
    """Return the images to be made, each with its pyramid; level 0 has a block's core as shard."""
    grids = level_grids(source.shape_zyx, source.voxel_size)
    chunk = choose_chunk(plan.core)
    first = 3 - len(source.spatial_axes)
    specs = []
    for name in request.outputs:
        kind = OUTPUT_KINDS[name]
        channels = kind.channels(len(predictor.class_names))
        specs.append(
            ImageSpec(
                name=name,
                is_label=kind.is_label,
                path=kind.path,
                axes=("c" if kind.per_class else "") + source.spatial_axes,
                dtype=request.scores_dtype if kind is SCORES else kind.dtypes[0],
                class_names=predictor.class_names,
                shapes=tuple((*channels, *shape[first:]) for _, shape in grids),
                shards=((*channels, *plan.core[first:]),) * len(grids),
                chunks=((*kind.channels(1), *chunk[first:]),) * len(grids),
                voxel_sizes=tuple(
                    tuple(v * f for v, f in zip(source.voxel_size, factor, strict=True))
                    for factor, _ in grids
                ),
                translations=tuple(
                    tuple(
                        t + v * (f - 1) / 2
                        for t, v, f in zip(
                            source.translation, source.voxel_size, factor, strict=True
                        )
                    )
                    for factor, _ in grids
                ),
                unit=source.unit,
            )
        )
    return specs


def _layout(
    source: VolumeSource, plan: BlockPlan, images: tuple[ImageSpec, ...], request: SegmentRequest
) -> Layout:
    output_bytes = files = 0
    for image in images:
        channels = image.shapes[0][0] if "c" in image.axes else 1
        output_bytes += channels * np.dtype(image.dtype).itemsize
        chunks = np.prod([s // c for s, c in zip(image.shards[0], image.chunks[0], strict=True)])
        files += 1 if request.format == "0.5" else int(chunks)
    return Layout(
        channels=source.channel_count,
        itemsize=np.dtype(source.dtype).itemsize,
        chunk_zyx=source.chunk_shape_zyx,
        output_bytes_per_voxel=output_bytes,
        files_per_block=files,
    )


def with_settled(prepared: Prepared, predictor: Predictor) -> Prepared:
    """Return ``prepared`` with a predictor that leaves nothing to ``auto``, and what that costs."""
    layout = _layout(prepared.source, prepared.plan, prepared.images, prepared.request)
    budget = reckon(prepared.plan, predictor, layout, regions=prepared.budget.regions)
    return replace(prepared, predictor=predictor, budget=budget)
