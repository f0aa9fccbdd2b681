"""The options of viewing an output."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from .declared import Shell

VIEWER = "viewer"


class ViewFiles(BaseModel):
    """What the command shows."""

    output: Annotated[str, Shell(metavar="OUTPUT", positional=True)] = Field(
        description="Output of any command, or any image: a path or URI",
        examples=["segmented.zarr"],
    )


class ViewOptions(BaseModel):
    """How to show it."""

    model_config = ConfigDict(extra="forbid", title="Options")

    napari: Annotated[bool, Shell(VIEWER)] = Field(
        False, description="Open napari instead of a page for the browser"
    )
    print_only: Annotated[bool, Shell(VIEWER, name="print")] = Field(
        False, title="Print", description="Only print the commands that open the output"
    )
    port: Annotated[int, Shell(VIEWER)] = Field(
        0, ge=0, le=65535, description="Port of the page on this machine; 0 is any free one"
    )
