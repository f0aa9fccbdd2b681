"""The options of ``overtile weights``."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from .declared import Shell
from .values import VoxelSizeUm

COPY = "copy with another voxel size"


class WeightsFiles(BaseModel):
    """What is shown."""

    weights: Annotated[str, Shell(metavar="FILE", positional=True)] = Field(
        description="Weights file, or the name of bundled weights; list: all of these",
        examples=["demo"],
    )


class WeightsOptions(BaseModel):
    """What a copy of the weights states. Without these options, nothing is written."""

    model_config = ConfigDict(extra="forbid", title="Options")

    voxel_size_um: Annotated[VoxelSizeUm | None, Shell(COPY, name="voxel-size")] = Field(
        None,
        description="Voxel size of the training, in µm or with a unit; of a 2-D network also Y,X",
        examples=[(0.05, 0.004, 0.004)],
    )
    out: Annotated[str | None, Shell(COPY, metavar="WEIGHTS")] = Field(
        None,
        description="Weights file to create, with that voxel size",
        examples=["w2.safetensors"],
    )
