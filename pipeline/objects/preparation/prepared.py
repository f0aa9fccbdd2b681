"""Objects with every decision made: what a run does, what it writes, and what identifies it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self

from ...base.location import Location
from ...base.versions import VERSION, versions
from ...ledger.identity import Job
from ...ledger.output_action import OutputAction
from ...ledger.places import as_recorded
from ...output.image_spec import ImageSpec
from ...planning.blocks import BlockPlan, Region
from ...planning.levels import level_grids, voxels_of_levels
from ...planning.shares import Share, cut
from ...planning.tile_choice import choose_chunk
from ...volume.micrometres import voxel_size_um
from ...volume.volume import VolumeSource
from ..definition.method import Method
from ..definition.request import PATH, ObjectsRequest
from ..definition.scores import Scores
from ..table.table_spec import TableSpec
from ..tasks.filters import Filter
from ..tasks.tasks import Intensity
from .budget import ObjectsBudget, reckon_objects
from .part_words import part_in_words


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
    intensity_sample: str | None = None
    """Digest of a sample of the image of grey values, if there is one."""
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
        z_um, y_um, x_um = (None if one is None else one * towards
                            for one, towards in zip(um, source.direction, strict=True))  # fmt: skip
        return TableSpec(
            is_flat=self.method.per_slice or self.plan.shape[0] == 1,
            voxel_size_um=(z_um, y_um, x_um),
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

    def image(self, dtype: str, *, objects: int | None = None) -> ImageSpec:
        """Return the image of the labels. objects: how many there are, where it is known."""
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
            highest_label=objects,
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
                "input_uri": source.identity,
                "input_path": source.path,
                "axes": source.axes,
                "channels": source.channels,
                "time": source.time,
                **self.method.job_parts(),
                **source.given_size_part(),
                "min_voxels": self.kept.min_voxels,
                "max_voxels": self.kept.max_voxels,
                "drops_border": self.kept.drops_border,
                "fill_holes": self.request.fill_holes,
                "intensity": self.intensity and self.intensity.source.metadata_digest,
                "intensity_sample": self.intensity_sample,
                "block": list(self.plan.core),
                "format": self.request.format,
                "overtile": VERSION,
            },
            in_words=partial(part_in_words, highest=self.scores.highest),
        )

    def as_recorded(self, output: Location, stored: Mapping[str, Any]) -> Self:
        """Return this with the places of its inputs as the run of an output knows them.

        stored: the parts of that run's job. See places.py.
        """
        source = as_recorded(self.scores.source, output, stored.get("input"))
        grey = self.intensity
        if grey is not None:
            grey = replace(grey, source=as_recorded(grey.source, output, stored.get("intensity")))
        return replace(self, scores=replace(self.scores, source=source), intensity=grey)

    def provenance(self, *, workers: int) -> dict[str, Any]:
        """Return the record of how the output was made. It has no secrets."""
        return {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "overtile": VERSION,
            "input": str(self.scores.source.store),
            "input_path": self.scores.source.path,
            **({} if self.intensity is None else {"intensity": str(self.intensity.source.store)}),
            "class": self.scores.class_name,
            "workers": workers,
            "versions": versions(),
        }


def _channel_names(source: VolumeSource) -> tuple[str, ...]:
    names = source.channel_names
    numbers = tuple(str(number) for number in range(source.channel_count))
    return names if len(names) == source.channel_count else numbers
