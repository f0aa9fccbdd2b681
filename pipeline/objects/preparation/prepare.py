"""From a request to a prepared run: all is decided and checked, nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ...base.errors import OutputError
from ...base.geometry import Shape
from ...base.location import Location
from ...base.sample_digest import same_where_unread
from ...ledger.identity import check_job
from ...ledger.ledger import stored_job
from ...ledger.output_action import OutputAction, choose_output_action
from ...ledger.places import moved_notes
from ...ledger.progress import unfinished_notes
from ...ledger.shares import is_in_shares
from ...output.guard import check_apart
from ...output.image_spec import ImageSpec
from ...output.into_input import check_into_input
from ...volume.fingerprint import read_sample
from ..definition.find_scores import find_scores, planned_scores
from ..definition.request import ObjectsRequest
from ..definition.scores import Scores
from ..tasks.filters import Filter
from ..tasks.tasks import GRAPHS, TOUCHING
from .choices import choose_core, choose_method, plan_blocks
from .intensity import find_intensity, intensity_notes
from .lost_columns import lost_columns
from .prepared import PreparedObjects
from .reuse import check_kept, check_reuse, check_since


def prepare_objects(request: ObjectsRequest) -> PreparedObjects:
    """Return what a run would do. Reads metadata and a few voxels, writes nothing.

    Raises kinds of OvertileError for everything that it refuses.
    """
    _check_apart(request)
    shared = not request.share and not request.overwrite and is_in_shares(request.output)
    if request.merge_only and not shared:
        raise OutputError(
            f"--merge-only: {request.output} is not made in shares; label its blocks with --shard "
            "i/N first, or leave --merge-only out"
        )
    action = choose_output_action(
        request.output, source=None if request.is_inside else request.scores, share=request.share,
        overwrite=request.overwrite, finishing=shared,
    )  # fmt: skip
    stored = stored_job(request.output) if action == "resumed" else {}
    scores = find_scores(request)
    if request.into_input:
        image = scores.source.image if scores.source.format == "zarr" else None
        check_into_input(request.output, image=image, version=request.format)
    sample = read_sample(scores.source)
    scores.check_values(sample.values)
    prepared = _prepared(
        request, scores, action=action, core=tuple(stored.get("block", ())) or None,
        sample_digest=same_where_unread(sample.digest, stored.get("input_sample")),
    )  # fmt: skip
    if prepared.intensity is not None:
        seen = read_sample(prepared.intensity.source).digest
        known = same_where_unread(seen, stored.get("intensity_sample"))
        prepared = replace(prepared, intensity_sample=known)
    lost = lost_columns(request, action=action)
    unfinished = unfinished_notes(scores.source.store)
    prepared = replace(prepared, in_shares=shared, notes=(*prepared.notes, *lost, *unfinished))
    if stored:
        prepared = prepared.as_recorded(request.output, stored)
        grey = prepared.intensity.source if prepared.intensity else None
        moved = moved_notes(prepared.scores.source, grey)
        prepared = replace(prepared, notes=(*prepared.notes, *moved))
    _ = prepared.regions  # raises PlanError for too many shares
    if stored:
        check_job(request.output, prepared.job, stored)
        if request.keep_intermediates:
            check_kept(request.output)
    if request.reused is not None:
        check_reuse(
            request.reused, prepared, blocks=len(prepared.plan),
            stages=(GRAPHS,) if request.agglomerate == "none" else (GRAPHS, TOUCHING),
        )  # fmt: skip
    if request.earlier is not None:
        check_since(request.earlier, prepared.job, grid=prepared.plan.grid)
    return prepared


def _check_apart(request: ObjectsRequest) -> None:
    """Raise OutputError if the run could delete what it reads, besides the scores."""
    image = request.intensity
    if image == request.scores and request.is_inside:
        image = None  # the output is among the labels of the image
    others = ((request.reused, "reused output"), (request.earlier, "output of --since"))
    for read, name in ((image, "image of grey values"), *others):
        if isinstance(read, Location):
            check_apart(request.output, read, name=name)


def plan_objects(
    request: ObjectsRequest, image: ImageSpec, *, job_parts: Mapping[str, Any]
) -> PreparedObjects:
    """Return what a run would do with scores that a segmentation will write. Reads nothing of them.

    image: of the scores. job_parts: of the segmentation. The plan states what a run needs; it does
    not identify a job. Raises kinds of OvertileError for what a run refuses.
    """
    scores = planned_scores(request, image, job_parts=job_parts)
    return _prepared(request, scores, action="created", core=None, sample_digest="")


def _prepared(
    request: ObjectsRequest, scores: Scores, *, action: OutputAction, core: Shape | None,
    sample_digest: str,
) -> PreparedObjects:  # fmt: skip
    """core: that of the output, where it is resumed."""
    source = scores.source
    core = request.block or core or choose_core(source.shape_zyx)
    intensity = find_intensity(request, source)
    return PreparedObjects(
        request=request,
        scores=scores,
        plan=plan_blocks(source.shape_zyx, core=core),
        method=choose_method(request, scores),
        kept=Filter(
            min_voxels=request.min_voxels,
            max_voxels=request.max_voxels,
            drops_border=request.border == "drop",
        ),
        intensity=intensity,
        sample_digest=sample_digest,
        output_action=action,
        notes=(*source.notes, *_notes(request, scores), *intensity_notes(intensity, source)),
    )


def _notes(request: ObjectsRequest, scores: Scores) -> Iterator[str]:
    if scores.from_slices and not request.per_slice:
        yield (
            "objects continue from slice to slice, though the 2-D network saw each slice alone: "
            "add --per-slice if the slices are separate images"
        )
    if not scores.source.dtype.startswith("uint"):
        yield f"scores of {scores.source.dtype} are rounded to uint16"
    if not scores.source.channel_names and scores.class_name.isdecimal():
        yield (
            f"{scores.source.location} names no classes: its values are taken as scores; an image "
            "must be segmented first (overtile segment --objects)"
        )
