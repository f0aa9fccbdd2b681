"""From a request to a prepared run: everything is decided and checked, nothing is written.

`overtile plan` prints the result; a run starts from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from ..base.errors import PlanError, VolumeError
from ..base.geometry import Shape
from ..base.sample_digest import same_where_unread
from ..base.versions import VERSION
from ..ledger.earlier_output import check_earlier
from ..ledger.identity import Job
from ..ledger.ledger import stored_job
from ..ledger.output_action import OutputAction, choose_output_action
from ..ledger.places import as_recorded, moved_notes
from ..models.protocol import Predictor, outputs_of
from ..output.image_spec import ImageSpec
from ..output.into_input import check_into_input
from ..output.kinds import OUTPUT_KINDS
from ..planning.block_selection import BlockSelection
from ..planning.blocks import BlockPlan, Region
from ..planning.budget import Budget, reckon
from ..planning.chunk_fit import chunk_note
from ..planning.shares import Share, cut
from ..planning.tile_memory import WorkerRoom
from ..volume.fingerprint import Sample, intensity_note, read_sample
from ..volume.formats import axes as axes_of
from ..volume.given_size import check_voxels_of_file
from ..volume.intensity import stated_intensity
from ..volume.size_text import size_in_words
from ..volume.volume import VolumeSource
from .engines.block import OutputArray
from .images import image_specs, input_layout, storage_layout
from .normalisation import choose_record
from .outputs import with_outputs
from .part import Part, choose_part, part_as_recorded, select_blocks
from .request import SegmentRequest
from .same_job import check_same_job
from .since import check_same_grid, sizes_since
from .sizes import choose_sizes
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
    tile_memory_bytes: int
    """Memory of a tile that the plan was made for."""
    room: WorkerRoom | None
    """What a worker can spare, where the plan depends on it and it is known."""
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
    volume_notes: tuple[str, ...]
    """Warnings about the volume, which no plan changes."""
    chunk_note: str | None
    """A warning about the plan: it reads chunks more than once."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings for the user, a line each."""
        return (*self.volume_notes, *([self.chunk_note] if self.chunk_note else []))

    @property
    def output_voxel_bytes(self) -> int:
        """Bytes that are written per voxel, of all outputs together, before compression."""
        classes = len(self.predictor.class_names)
        return sum(
            np.dtype(output.dtype).itemsize * prod(output.kind.channels(classes))
            for output in self.outputs
        )

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
                "input_uri": self.source.identity,
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
                **self.source.given_size_part(),
                **self.part.job_parts(),
            },
            in_words=size_in_words,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What a plan is made from."""

    request: SegmentRequest
    source: VolumeSource
    predictor: Predictor
    record: Mapping[str, Any]
    part: Part
    sample_digest: str
    output_action: OutputAction
    notes: tuple[str, ...]
    stored: Mapping[str, Any]
    """The job of the output that is resumed; empty without one."""


def prepare(
    request: SegmentRequest,
    predictor: Predictor,
    *,
    room: WorkerRoom | None = None,
    finishing: bool = False,
) -> Prepared:
    """Return what a run of ``request`` would do. Reads metadata and a few voxels, writes nothing.

    room: what a worker can spare, if it is known; see room.py. finishing: the run finishes an
    output that was made in shares. To resume an output, block and tile sizes that the request
    leaves open are those of the earlier run, so that another machine can resume it. Raises kinds of
    OvertileError for everything that a run would refuse without asking a worker.
    """
    request = with_outputs(request, predictor)
    action = choose_output_action(
        request.output,
        source=None if request.into_input else request.input,
        share=request.share,
        overwrite=request.overwrite,
        finishing=finishing,
    )
    stored = stored_job(request.output) if action == "resumed" else {}
    if request.earlier is not None:
        check_earlier(request.earlier, request.output)
    source = request.find_source(level=request.level)
    if request.into_input:
        check_voxels_of_file(source)
        image = source.image if source.format == "zarr" else None
        check_into_input(request.output, image=image, version=request.format)
    check_suits(predictor, source, allow_seams=request.allow_seams)
    part = choose_part(request, source)
    if stored:
        source = as_recorded(source, request.output, stored.get("input"))
        part = part_as_recorded(part, request.output, stored)
    notes = (*source.notes, *moved_notes(source, part.mask.source if part.mask else None))
    record, record_notes = choose_record(request, predictor, source)
    sample = read_sample(source)
    facts = _Facts(
        request=request,
        source=source,
        predictor=predictor,
        record=record,
        part=part,
        sample_digest=same_where_unread(sample.digest, stored.get("input_sample")),
        output_action=action,
        notes=(*notes, *record_notes, *notes_on(predictor, source, record, sample)),
        stored=stored or sizes_since(request),
    )
    prepared = _planned(facts, room)
    check_same_grid(request, prepared.plan)
    if stored:
        job = prepared.job(predictor)
        check_same_job(request, source, job=job, stored=stored, finishing=finishing)
    return prepared


def depends_on_room(prepared: Prepared) -> bool:
    """Return whether the plan depends on what the workers can spare, or on how many they are."""
    return prepared.request.tile is None and prepared.output_action != "resumed"


def planned_for(prepared: Prepared, room: WorkerRoom) -> Prepared:
    """Return the plan for this room. Raises PlanError where the network does not fit."""
    if room == prepared.room:
        return replace(prepared, room=room)  # now it may be asked
    return _planned(_facts_of(prepared, sizes_since(prepared.request)), room)


def with_sizes_of(prepared: Prepared, stored: Mapping[str, Any]) -> Prepared:
    """Return the plan with the sizes of a stored job, where the request leaves these open."""
    return _planned(_facts_of(prepared, stored), prepared.room)


def _facts_of(prepared: Prepared, stored: Mapping[str, Any]) -> _Facts:
    return _Facts(
        request=prepared.request,
        source=prepared.source,
        predictor=prepared.predictor,
        record=prepared.record,
        part=prepared.part,
        sample_digest=prepared.sample_digest,
        output_action=prepared.output_action,
        notes=prepared.volume_notes,
        stored=stored,
    )


def _planned(facts: _Facts, room: WorkerRoom | None) -> Prepared:
    request, source, predictor = facts.request, facts.source, facts.predictor
    sizes = choose_sizes(request, predictor, source, facts.part, stored=facts.stored, room=room)
    plan = sizes.plan
    part, selection = select_blocks(facts.part, plan)
    images = image_specs(request, source, plan, predictor.class_names, outputs_of(predictor))
    budget = _budget(request, source, selection, images, predictor)
    chunks = None
    if selection.chosen is None and part.box is None:  # the blocks of a part may share no chunk
        chunks = chunk_note(plan, budget, network=predictor, layout=input_layout(source))
    return Prepared(
        request=request,
        source=source,
        predictor=predictor,
        record=facts.record,
        plan=plan,
        plan_reason=sizes.reason,
        tile_memory_bytes=sizes.tile_memory_bytes,
        room=sizes.room,
        part=part,
        selection=selection,
        shares=cut(plan.regions(), request.share or Share(1, 1), count=selection.count),
        images=images,
        budget=budget,
        sample_digest=facts.sample_digest,
        output_action=facts.output_action,
        volume_notes=facts.notes,
        chunk_note=chunks,
    )


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
        if as_slices := axes_of.as_slices(source.axes):
            advice = f"select channels with --channel, pass --axes {as_slices} if they are slices"
        elif "c" not in source.axes:
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
