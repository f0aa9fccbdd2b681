"""The options of every command that reads one image: which part of it is read."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, Field

from .declared import Shell
from .values import Channels, NumberOrName, VoxelSizeUm

INPUT: Final = "input"
IMAGE: Final = "OME-Zarr, Zarr array, TIFF, slide, folder or pattern of slices: a path or URI"
"""Description of an input: any image that the pipeline reads (docs/inputs.md)."""


class VoxelSizeOption(BaseModel):
    """The size of a voxel, for images that state none or a wrong one."""

    voxel_size_um: Annotated[VoxelSizeUm | None, Shell(INPUT, name="voxel-size")] = Field(
        None,
        title="Voxel size in µm",
        description="Voxel size of the finest level, in µm or with a unit, whatever the file "
        "states; of a 2-D image also Y,X (default: as the file states)",
        examples=[(0.5, 0.2, 0.2)],
    )


class ImageOptions(BaseModel):
    """What to read of an image, and how."""

    level: Annotated[NumberOrName | None, Shell(INPUT)] = Field(
        None,
        description="Resolution level, by name or number (default: the finest)",
        examples=["s1"],
    )
    channel: Annotated[Channels | None, Shell(INPUT)] = Field(
        None, description="Channels, by name or index (default: all)", examples=[["0", "DAPI"]]
    )
    time: Annotated[int | None, Shell(INPUT)] = Field(
        None, ge=0, description="Time point of a time series"
    )
    axes: Annotated[str | None, Shell(INPUT, metavar="AXES")] = Field(
        None,
        description="Axes of the stored array (default: those in its metadata)",
        examples=["zyx", "yxc"],
    )
