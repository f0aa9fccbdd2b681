"""The options of meshes of objects."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from .declared import Shell
from .outlines import FOUND_OBJECTS
from .segment import OUTPUT
from .values import ObjectIds


class MeshesFiles(BaseModel):
    """What the command reads and writes."""

    objects: Annotated[str, Shell(metavar="OBJECTS", positional=True)] = Field(
        description=FOUND_OBJECTS, examples=["neurons.zarr"]
    )
    out: Annotated[str, Shell(metavar="FOLDER", positional=True)] = Field(
        description="Folder to create; meshes of the same objects that are there are kept",
        examples=["meshes"],
    )


class MeshesOptions(BaseModel):
    """Which meshes to write, and as what."""

    model_config = ConfigDict(extra="forbid", title="Options")

    ids: Annotated[ObjectIds | None, Shell(OUTPUT)] = Field(
        None, description="Objects (default: all)", examples=[[1, 2, 3]]
    )
    format: Annotated[Literal["ply", "obj", "precomputed"], Shell(OUTPUT)] = Field(
        "ply",
        description="Format of the files; precomputed is for Neuroglancer",
    )
    most_voxels: Annotated[int, Shell(OUTPUT)] = Field(
        2**25,
        ge=8,
        title="Most voxels",
        description="Largest box of an object at full resolution; a larger one is meshed at a "
        "coarser level",
    )
    overwrite: Annotated[bool, Shell(OUTPUT)] = Field(
        False, description="Replace meshes of other objects or of another format"
    )
