"""Which part of a volume a run segments: a box of it, or all, less what is skipped.

A block reads the true neighbours of its part; only the volume's own edge is mirrored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..base.choices import Frame
from ..base.errors import PlanError, VolumeError
from ..base.geometry import Box, Shape
from ..base.location import Location
from ..ledger.places import as_recorded
from ..output.guard import check_apart
from ..planning.block_selection import BlockSelection
from ..planning.blocks import BlockPlan
from ..volume.box_text import resolve_box
from ..volume.mask import MaskSource, find_mask
from ..volume.volume import VolumeSource
from .mask_survey import survey_mask
from .request import SegmentRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The part that is segmented, in voxels of the volume (z, y, x)."""

    volume: Shape
    box: Box | None = None
    """None: the whole volume."""
    frame: Frame = "box"
    mask: MaskSource | None = None
    mask_contents: str = ""
    """Digest of what was read of the mask."""
    skip: float | None = None

    @property
    def output_box(self) -> Box:
        """The box of the volume that the output holds."""
        if self.box is None or self.frame == "volume":
            return Box.of_shape(self.volume)
        return self.box

    @property
    def within(self) -> Box | None:
        """The box that is computed, in voxels of the output; None: everything."""
        return self.box if self.frame == "volume" else None

    def job_parts(self) -> Mapping[str, Any]:
        """Return what identifies the part; nothing for a whole volume."""
        parts: dict[str, Any] = {}
        if self.box is not None:
            parts |= {"box": [list(self.box.start), list(self.box.stop)], "frame": self.frame}
        if self.mask is not None:
            source = self.mask.source
            parts |= {
                "mask_uri": source.identity,
                "mask_path": source.path,
                "mask": source.metadata_digest,
                "mask_voxels": [[a.coarser, a.finer, a.start] for a in self.mask.axes],
                "mask_contents": self.mask_contents,
            }
        if self.skip is not None:
            parts["skip"] = "nan" if math.isnan(self.skip) else float(self.skip)  # 0 and 0.0
        return parts


def choose_part(request: SegmentRequest, source: VolumeSource) -> Part:
    """Return the part that a request asks for; reads metadata only.

    Raises PlanError, VolumeError or OutputError for a box, a mask or a value that does not fit.
    """
    volume = source.shape_zyx
    box = None if request.box is None else resolve_box(request.box, source)
    if box == Box.of_shape(volume):
        box = None
    if request.skip is not None:
        _check_value(request.skip, source.dtype)
    mask = None
    if request.mask_location is not None:
        check_apart(request.output, request.mask_location, name="mask")
        mask = find_mask(request.mask_location, source)
    return Part(volume=volume, box=box, frame=request.frame, mask=mask, skip=request.skip)


def part_as_recorded(part: Part, output: Location, stored: Mapping[str, Any]) -> Part:
    """Return the part with the place of its mask that the record of a run states, see places.py."""
    if part.mask is None:
        return part
    source = as_recorded(part.mask.source, output, stored.get("mask"))
    return replace(part, mask=replace(part.mask, source=source))


def select_blocks(part: Part, plan: BlockPlan) -> tuple[Part, BlockSelection]:
    """Return the part with the digest of its mask's contents, and the blocks that it meets.

    Reads the mask once. Raises VolumeError for a mask that has nothing inside the part.
    """
    selection = BlockSelection.within(plan)
    if part.mask is None:
        return part, selection
    selection, contents = survey_mask(part.mask, selection)
    if not len(selection):
        where = "the volume" if part.box is None else "the box"
        raise VolumeError(
            f"--mask {part.mask.source.location} has nothing inside {where}: expected voxels that "
            "are not 0; choose another mask"
        )
    return replace(part, mask_contents=contents), selection


def _check_value(value: float, dtype: str) -> None:
    """Raise PlanError if a volume of this dtype cannot have the value."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return
    limits = np.iinfo(kind)
    if not (float(value).is_integer() and limits.min <= value <= limits.max):
        raise PlanError(
            f"--skip {value:g}: the volume is {dtype} and never has this value; expected a whole "
            f"number from {limits.min} to {limits.max}"
        )
