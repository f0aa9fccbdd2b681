"""The options of a preview: what to show, and those of a segmentation that change its scores."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from .declared import Shell
from .segment import SegmentOptions
from .values import BoxCorners

PICTURE, PLACES = "picture", "places"
_USED: Final = frozenset({
    "level", "channel", "time", "axes", "voxel_size_um", "normalisation", "tile_memory_gib",
    "precision", "tta", "allow_seams",
})  # fmt: skip
NOT_USED: Final = frozenset(SegmentOptions.model_fields) - _USED
"""Options of a segmentation that a preview does not have."""


class PreviewBox(BaseModel):
    """A place to show; the shell takes several."""

    box: Annotated[BoxCorners, Shell(PLACES)] = Field(
        description="Box to show, in voxels of the level; its middle plane is drawn (default: the "
        "middle of the volume, its brightest and its most textured place)",
        examples=[((10, 0, 0), (11, 256, 256))],
    )


class PreviewOptions(BaseModel):
    """Where the picture goes."""

    model_config = ConfigDict(extra="forbid", title="Options")

    out: Annotated[str, Shell(PICTURE, metavar="PNG")] = Field(
        "preview.png", description="Picture to write; an earlier preview is replaced"
    )
