"""From a request to a prepared run: all is decided and checked, nothing is written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from ...base.errors import OutputError, PlanError
from ...base.geometry import Halo, Shape
from ...base.location import Location
from ...base.text import shape_text
from ...base.versions import VERSION, versions
from ...ledger.identity import Job, check_job
from ...ledger.ledger import stored_job
from ...ledger.output_action import OutputAction, choose_output_action
from ...ledger.shares import is_in_shares
from ...output.guard import check_apart
from ...output.image_spec import ImageSpec
from ...planning.blocks import BlockPlan, Region
from ...planning.levels import level_grids, voxels_of_levels
from ...planning.shares import Share, cut
from ...planning.tile_choice import choose_chunk
from ...volume.fingerprint import read_sample, same_where_unread
from ...volume.micrometres import voxel_size_um
from ...volume.volume import VolumeSource
from ..definition.lengths import in_steps
from ..definition.method import Method
from ..definition.request import PATH, ObjectsRequest
from ..definition.scores import Scores, find_scores, planned_scores
from ..table.table_spec import TableSpec
from ..tasks.filters import Filter
from ..tasks.tasks import GRAPHS, TOUCHING, Intensity
from .budget import ObjectsBudget, reckon_objects
from .intensity import find_intensity, intensity_notes
from .part_words import part_in_words
from .reuse import check_kept, check_reuse

VOLUME_BLOCK: Final = (128, 128, 128)
PLANE_BLOCK: Final = (1, 2048, 2048)
BLOCKS_ENOUGH: Final = 512
BLOCK_VOXELS: Final = 2**24
BLOCK_VOXELS_BELOW: Final = 2**31
"""Voxels of a block, with one more on each side, are numbered by int32."""
DEFAULT_DEPTH: Final = 0.1
"""The best of 0.02 to 0.3 by variation of information on three parts of FIB-25."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedObjects:
    """Objects with every decision made."""

    request: ObjectsRequest
    scores: Scores
    plan: BlockPlan
    method: Method
    kept: Filter
    intensity: Intensity | None
    sample_digest: str
    output_action: OutputAction
    in_shares: bool = False
    """Whether the run continues, without a share, an output that is made in shares."""
    notes: tuple[str, ...]

    @property
    def is_partial(self) -> bool:
        """Whether the run ends before the output is complete."""
        return bool(self.request.share) or self.request.merge_only

    @property
    def ends_shares(self) -> bool:
        """Whether the run takes over the blocks of all shares."""
        return self.in_shares and not self.request.merge_only

    @property
    def regions(self) -> tuple[Region, ...]:
        """All regions of blocks, or those of the run's share. Raises PlanError."""
        share = self.request.share or Share(1, 1)
        return self.shares(share.of)[share.number - 1]

    def shares(self, of: int) -> tuple[tuple[Region, ...], ...]:
        """Return the regions of each of some shares. Raises PlanError for too many."""
        return cut(self.plan.regions(), Share(1, of))

    @property
    def table_spec(self) -> TableSpec:
        """What the table states, besides the objects."""
        source, image = self.scores.source, self.intensity
        um = voxel_size_um(source)
        per_unit = [0.0 if one is None else one / size
                    for one, size in zip(um, source.voxel_size, strict=True)]  # fmt: skip
        z, y, x = (t * u for t, u in zip(source.translation, per_unit, strict=True))
        return TableSpec(
            is_flat=self.method.per_slice or self.plan.shape[0] == 1,
            voxel_size_um=um,
            origin_um=(z, y, x),
            score_scale=self.scores.highest,
            channel_names=_channel_names(image.source) if image else (),
            intensity_dtype=image.source.dtype if image else "uint8",
        )

    @property
    def axes(self) -> str:
        """Axes of the labels."""
        return self.scores.source.spatial_axes

    @property
    def path(self) -> str:
        """Path of the image in the output."""
        return "" if self.request.is_inside else PATH

    def image(self, dtype: str) -> ImageSpec:
        """Return the image of the labels."""
        source = self.scores.source
        grids = level_grids(source.shape_zyx, source.voxel_size)
        first = 3 - len(self.axes)
        sizes, translations = voxels_of_levels(grids, source.step, source.translation)
        core = self.plan.core
        return ImageSpec(
            name="objects",
            is_label=True,
            path=self.path,
            is_inside=self.request.is_inside,
            axes=self.axes,
            dtype=dtype,
            class_names=(),
            shapes=tuple(shape[first:] for _, shape in grids),
            shards=(core[first:],) * len(grids),
            chunks=(choose_chunk(core)[first:],) * len(grids),
            voxel_sizes=sizes,
            translations=translations,
            unit=source.unit,
        )

    @property
    def budget(self) -> ObjectsBudget:
        """What the run needs."""
        return reckon_objects(
            self.plan, self.method, self.scores,
            grey=self.intensity.source if self.intensity else None,
            fills_holes=self.request.fill_holes,
        )  # fmt: skip

    @property
    def job(self) -> Job:
        """What identifies the run: everything that changes a label."""
        source = self.scores.source
        return Job(
            {
                "kind": "objects",
                "input": source.metadata_digest,
                "input_sample": self.sample_digest,
                "input_uri": source.store.identity,
                "input_path": source.path,
                "axes": source.axes,
                "channels": source.channels,
                "time": source.time,
                **self.method.job_parts(),
                **({"voxel_size_um": list(size)} if (size := self.request.voxel_size_um) else {}),
                "min_voxels": self.kept.min_voxels,
                "max_voxels": self.kept.max_voxels,
                "drops_border": self.kept.drops_border,
                "fill_holes": self.request.fill_holes,
                "intensity": self.intensity and self.intensity.source.metadata_digest,
                "block": list(self.plan.core),
                "format": self.request.format,
                "overtile": VERSION,
            },
            in_words=partial(part_in_words, highest=self.scores.highest),
        )

    def provenance(self, *, workers: int) -> dict[str, Any]:
        """Return the record of how the output was made. It has no secrets."""
        return {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "overtile": VERSION,
            "input": str(self.scores.source.store),
            "input_path": self.scores.source.path,
            "class": self.scores.class_name,
            "workers": workers,
            "versions": versions(),
        }


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
    sample = read_sample(scores.source)
    scores.check_values(sample.values)
    prepared = _prepared(
        request, scores, action=action, core=tuple(stored.get("block", ())) or None,
        sample_digest=same_where_unread(sample.digest, stored.get("input_sample")),
    )  # fmt: skip
    prepared = replace(prepared, in_shares=shared)
    _ = prepared.regions  # raises PlanError for too many shares
    if stored:
        check_job(request.output, prepared.job, stored)
        if request.keep_intermediates:
            check_kept(request.output)
    if request.reused is not None:
        check_reuse(
            request.reused, prepared.job, blocks=len(prepared.plan),
            stages=(GRAPHS,) if request.agglomerate == "none" else (GRAPHS, TOUCHING),
        )  # fmt: skip
    return prepared


def _check_apart(request: ObjectsRequest) -> None:
    """Raise OutputError if the run could delete what it reads, besides the scores."""
    image = request.intensity
    if image == request.scores and request.is_inside:
        image = None  # the output is among the labels of the image
    for read, name in ((image, "image of grey values"), (request.reused, "reused output")):
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
    intensity = find_intensity(request, source)
    return PreparedObjects(
        request=request,
        scores=scores,
        plan=_plan(source.shape_zyx, request.block or core or choose_core(source.shape_zyx)),
        method=choose_method(request, scores),
        kept=Filter(
            min_voxels=request.min_voxels,
            max_voxels=request.max_voxels,
            drops_border=request.border == "drop",
        ),
        intensity=intensity,
        sample_digest=sample_digest,
        output_action=action,
        notes=(*source.notes, *_notes(scores), *intensity_notes(intensity, source)),
    )


def _channel_names(source: VolumeSource) -> tuple[str, ...]:
    names = source.channel_names
    numbers = tuple(str(number) for number in range(source.channel_count))
    return names if len(names) == source.channel_count else numbers


def _plan(shape: Shape, core: Shape) -> BlockPlan:
    """Return the plan of blocks without halo. Raises PlanError where they are too large."""
    if math.prod(min(c, n) + 2 for c, n in zip(core, shape, strict=True)) >= BLOCK_VOXELS_BELOW:
        raise PlanError(
            f"block {shape_text(core)}: expected fewer than {BLOCK_VOXELS_BELOW:,} voxels; pass a "
            "smaller --block"
        )
    none = (0, 0, 0)
    return BlockPlan(shape=shape, core=core, halo=Halo(none, none), divisor=(1, 1, 1))


def _notes(scores: Scores) -> Iterator[str]:
    if not scores.source.dtype.startswith("uint"):
        yield f"scores of {scores.source.dtype} are rounded to uint16"
    if not scores.source.channel_names and scores.class_name.isdecimal():
        yield (
            f"{scores.source.location} names no classes: its values are taken as scores; an image "
            "must be segmented first (overtile segment --objects)"
        )


def choose_core(shape: Shape) -> Shape:
    """Return the size of blocks: larger ones where the volume has many, none beyond the volume."""
    core = list(VOLUME_BLOCK if shape[0] > 1 else PLANE_BLOCK)
    while True:
        blocks = math.prod(-(-n // c) for n, c in zip(shape, core, strict=True))
        axis = min((a for a in range(3) if shape[a] > core[a]), key=lambda a: core[a], default=None)
        if axis is None or blocks <= BLOCKS_ENOUGH or 2 * math.prod(core) > BLOCK_VOXELS:
            break
        core[axis] *= 2
    return tuple(min(c, -(-n // 16) * 16) if n > 1 else 1 for c, n in zip(core, shape, strict=True))


def choose_method(request: ObjectsRequest, scores: Scores) -> Method:
    """Return the definition of objects in stored integers and integer lengths. Raises PlanError."""
    is_watershed = request.method == "watershed"
    if request.agglomerate != "none" and scores.role == "foreground":
        raise PlanError(
            f"--agglomerate {request.agglomerate} merges objects across a boundary of low scores: "
            f"class {scores.class_name} is that of the objects; see --role"
        )
    threshold = request.threshold
    if threshold is None and not (is_watershed and scores.role == "boundary"):
        threshold = 0.5
    seeds, depth = request.seed_threshold, request.depth
    if is_watershed and request.seed_distance is not None and seeds is None:
        seeds = 0.5
    if is_watershed and seeds is None and depth is None:
        depth = DEFAULT_DEPTH
    _check_seeds(request, scores, threshold)
    return Method(
        role=scores.role,
        threshold=None if threshold is None else scores.at_least(threshold),
        connectivity=request.connectivity,
        per_slice=request.per_slice,
        seed_threshold=None if seeds is None else scores.at_least(seeds),
        seed_distance=0 if request.seed_distance is None else in_steps(request.seed_distance),
        depth=0 if depth is None else max(1, round(depth * scores.highest)),
        agglomerate=request.agglomerate,
        merge_threshold=0
        if request.merge_threshold is None
        else scores.at_least(request.merge_threshold),
        spacing=_spacing(scores),
    )


def _check_seeds(request: ObjectsRequest, scores: Scores, threshold: float | None) -> None:
    """Raise PlanError if all of the objects would be seeds, by thresholds that are reversed."""
    seeds = request.seed_threshold
    if seeds is None or threshold is None or request.seed_distance is not None:
        return
    is_above = scores.role == "foreground"
    if seeds < threshold if is_above else seeds > threshold:
        raise PlanError(
            f"--seed-threshold {seeds:g} with a threshold of {threshold:g}: seeds would be whole "
            f"objects; expected a seed threshold {'above' if is_above else 'below'} it, since "
            f"class {scores.class_name} is "
            f"{'that of the objects' if is_above else 'a boundary'}"
        )


def _spacing(scores: Scores) -> Shape:
    """Return the size of a voxel in steps: of µm, or of the finest axis without a unit."""
    source = scores.source
    sizes = [one for axis, one in zip("zyx", voxel_size_um(source), strict=True)
             if axis in source.spatial_axes]  # fmt: skip
    if None not in sizes:
        known = [1.0] * (3 - len(sizes)) + [float(one) for one in sizes if one]
        return tuple(max(1, in_steps(one)) for one in known)
    finest = min(source.voxel_size)
    return tuple(max(1, in_steps(one / finest)) for one in source.voxel_size)
