"""From a request to a prepared run: everything is decided and checked, nothing is written.

`overtile plan` prints the result; a run starts from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..base.errors import PlanError, VolumeError
from ..base.geometry import Shape
from ..base.versions import VERSION
from ..ledger.identity import Job, check_job
from ..ledger.ledger import stored_job
from ..ledger.output_action import OutputAction, choose_output_action
from ..models.protocol import Predictor
from ..output.image_spec import ImageSpec
from ..output.kinds import OUTPUT_KINDS
from ..planning.block_selection import BlockSelection
from ..planning.blocks import BlockPlan, Region
from ..planning.budget import Budget, reckon
from ..planning.chunk_fit import chunk_note
from ..planning.shares import Share, cut
from ..planning.traversal import ChosenPlan, Given, choose_plan
from ..volume.fingerprint import Sample, intensity_note, read_sample, same_where_unread
from ..volume.intensity import stated_intensity
from ..volume.volume import VolumeSource
from .engines.block import OutputArray
from .images import image_specs, input_layout, storage_layout
from .normalisation import choose_record
from .part import Part, choose_part, select_blocks
from .request import SegmentRequest
from .trained_scale import voxel_size_note

MOST_CLASSES = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A request with every decision made: what is read, computed and written, and its cost."""

    request: SegmentRequest
    source: VolumeSource
    predictor: Predictor
    record: Mapping[str, Any]
    plan: BlockPlan
    plan_reason: str
    """Why tiles go through the network as they do, whole or swept."""
    part: Part
    selection: BlockSelection
    """The blocks that are computed: those of the part, of all shares."""
    shares: tuple[tuple[Region, ...], ...]
    """The regions of each share; one share for a run of all."""
    images: tuple[ImageSpec, ...]
    budget: Budget
    sample_digest: str
    output_action: OutputAction
    """Whether the output is created, resumed, or deleted and created again."""
    notes: tuple[str, ...]

    @property
    def regions(self) -> tuple[Region, ...]:
        """All regions, or those of the run's share."""
        return self.shares[self.request.share.number - 1 if self.request.share else 0]

    @property
    def blocks(self) -> int:
        """Number of blocks of this run; completed ones and those outside the part included."""
        return sum(map(len, self.regions))

    @property
    def computed_blocks(self) -> int:
        """Number of blocks of this run in the part, completed ones included."""
        return sum(map(self.selection.count, self.regions))

    @property
    def voxels(self) -> int:
        """Number of voxels of the cores of these blocks."""
        return self.selection.voxels(self.regions)

    def indices(self) -> Iterator[Shape]:
        """Yield the grid positions of this run's blocks in the part, completed ones included."""
        return itertools.chain.from_iterable(map(self.selection.indices, self.regions))

    @property
    def outputs(self) -> tuple[OutputArray, ...]:
        """The arrays that blocks write: level 0 of each image."""
        return tuple(
            OutputArray(OUTPUT_KINDS[image.name], image.level_path(0), image.dtype)
            for image in self.images
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
                **({"traversal": "sweep"} if self.plan.traversal == "sweep" else {}),
                "halo": list(self.plan.halo.low),
                "divisor": list(self.plan.divisor),
                "engine": request.engine,
                "outputs": list(request.outputs),
                "scores_dtype": request.scores_dtype if "scores" in request.outputs else None,
                "format": request.format,
                "overtile": VERSION,
                **self.part.job_parts(),
            }
        )


def prepare(request: SegmentRequest, predictor: Predictor, *, finishing: bool = False) -> Prepared:
    """Return what a run of ``request`` would do. Reads metadata and a few voxels, writes nothing.

    finishing: the run finishes an output that was made in shares. To resume an output, block and
    tile sizes that the request leaves open are those of the earlier run, so that another machine
    can resume it. Raises kinds of OvertileError for everything that a run would refuse without
    asking a worker.
    """
    action = choose_output_action(
        request.output,
        source=request.input,
        share=request.share,
        overwrite=request.overwrite,
        finishing=finishing,
    )
    stored = stored_job(request.output) if action == "resumed" else {}
    source = request.find_source(level=request.level)
    check_suits(predictor, source, allow_seams=request.allow_seams)
    record, record_notes = choose_record(request, predictor, source)
    sample = read_sample(source)
    part = choose_part(request, source)
    chosen = _plan(request, predictor, source, part, stored)
    plan = chosen.plan
    part, selection = select_blocks(part, plan)
    regions = plan.regions()
    images = image_specs(request, source, plan, predictor.class_names)
    budget = _budget(request, source, selection, images, predictor)
    chunks = None
    if selection.chosen is None and part.box is None:  # the blocks of a part may share no chunk
        chunks = chunk_note(plan, budget, network=predictor, layout=input_layout(source))
    prepared = Prepared(
        request=request,
        source=source,
        predictor=predictor,
        record=record,
        plan=plan,
        plan_reason=chosen.reason,
        part=part,
        selection=selection,
        shares=cut(regions, request.share or Share(1, 1), count=selection.count),
        images=images,
        budget=budget,
        sample_digest=same_where_unread(sample.digest, stored.get("input_sample")),
        output_action=action,
        notes=(
            *source.notes,
            *record_notes,
            *notes_on(predictor, source, record, sample),
            *([chunks] if chunks else []),
        ),
    )
    if stored:
        check_job(request.output, prepared.job(predictor), stored)
    return prepared


def with_settled(prepared: Prepared, predictor: Predictor) -> Prepared:
    """Return ``prepared`` with a predictor that has no ``auto`` setting, and its budget."""
    budget = _budget(
        prepared.request, prepared.source, prepared.selection, prepared.images, predictor
    )
    return replace(prepared, predictor=predictor, budget=budget)


def _budget(
    request: SegmentRequest,
    source: VolumeSource,
    selection: BlockSelection,
    images: Sequence[ImageSpec],
    predictor: Predictor,
) -> Budget:
    plan = selection.plan
    return reckon(
        plan,
        predictor,
        storage_layout(source, images, request),
        regions=sum(map(bool, map(selection.count, plan.regions()))),
        summed=selection.summed,
    )


def check_suits(predictor: Predictor, source: VolumeSource, *, allow_seams: bool) -> None:
    """Raise where the network does not suit the volume or cannot be tiled."""
    if source.channel_count != predictor.in_channels:
        advice = "select channels with --channel, or correct --axes"
        if "c" not in source.axes:
            advice = "pass --axes if one of them is c"
        raise VolumeError(
            f"{source.channel_count} channel(s) in the volume (axes {' '.join(source.axes)}, shape "
            f"{source.shape}): the weights expect {predictor.in_channels}; {advice}, or use other "
            "weights"
        )
    if predictor.tile_dependent_layers and not allow_seams:
        raise PlanError(
            "the network has layers that depend on statistics of the whole tile "
            f"({', '.join(predictor.tile_dependent_layers)}), so tiled would not equal whole: "
            "use a network with batch norm or without norm, or accept seams with --allow-seams"
        )
    if len(predictor.class_names) > MOST_CLASSES:
        raise PlanError(
            f"the network has {len(predictor.class_names)} classes: expected at most "
            f"{MOST_CLASSES}, which fit uint8; use other weights"
        )


def _plan(
    request: SegmentRequest,
    predictor: Predictor,
    source: VolumeSource,
    part: Part,
    stored: Mapping[str, Any],
) -> ChosenPlan:
    """Return the plan, with the sizes of the stored job where the request leaves them open."""
    chosen = choose_plan(
        _given(request, stored),
        part.output_box.shape,
        predictor,
        memory_bytes=request.tile_memory_bytes,
        layout=input_layout(source),
        origin=part.output_box.start,
        within=part.within,
    )
    if stored and request.block is None:  # a chosen block may be longer than the volume
        return replace(chosen, plan=replace(chosen.plan, core=tuple(stored["block"])))
    return chosen


def _given(request: SegmentRequest, stored: Mapping[str, Any]) -> Given:
    """Return what the request decides, and the stored job where the request leaves it open."""
    block = request.block or tuple(stored.get("block", ())) or None
    tile, traversal = request.tile, request.traversal
    if tile is None and (not request.block or list(request.block) == stored.get("block")):
        tile = tuple(stored.get("tile", ())) or None
        if stored and traversal == "auto":
            traversal = stored.get("traversal", "tiles")
    if request.engine != "store" and traversal == "auto":
        traversal = "tiles"
    return Given(block=block, tile=tile, traversal=traversal)


def notes_on(
    predictor: Predictor, source: VolumeSource, record: Mapping[str, Any], sample: Sample
) -> Iterator[str]:
    """Yield warnings about a volume that does not suit the weights, a line each."""
    if note := voxel_size_note(predictor, source):
        yield note
    if note := intensity_note(sample, stated_intensity(record, source.dtype), record):
        yield note
    if sample.unreadable:
        yield f"a part of the input cannot be read ({sample.unreadable})"
    if source.shape_zyx[0] == 1 and predictor.halo[0]:
        yield "the volume has one z and the network is 3-D: the plane is mirrored along z"
