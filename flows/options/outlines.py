"""The options of outlines of objects."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from .declared import Shell
from .segment import OUTPUT

FOUND_OBJECTS = "Output of overtile objects, or of segment --objects: a path or URI"


class OutlinesFiles(BaseModel):
    """What the command reads and writes."""

    objects: Annotated[str, Shell(metavar="OBJECTS", positional=True)] = Field(
        description=FOUND_OBJECTS, examples=["cells.zarr"]
    )
    out: Annotated[str, Shell(metavar="OUT.geojson", positional=True)] = Field(
        description="File to write; with the ending .geojson.gz it is compressed",
        examples=["cells.geojson"],
    )


class OutlinesOptions(BaseModel):
    """How to write outlines."""

    model_config = ConfigDict(extra="forbid", title="Options")

    image: Annotated[str | None, Shell(OUTPUT, metavar="IMAGE")] = Field(
        None,
        description="Image whose finest pixels the coordinates count, found by its voxel size "
        "(default: the pixels of the objects)",
        examples=["slide.svs"],
    )
    name: Annotated[str | None, Shell(OUTPUT, metavar="CLASS")] = Field(
        None,
        description="Class of the objects in QuPath (default: that of the scores, or object)",
        examples=["nucleus"],
    )
    overwrite: Annotated[bool, Shell(OUTPUT)] = Field(False, description="Replace an existing file")
