"""The options of corrections."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from .declared import Shell
from .segment import OUTPUT


class CorrectionsFiles(BaseModel):
    """What is corrected."""

    output: Annotated[str, Shell(metavar="OUTPUT", positional=True)] = Field(
        description="Output of overtile segment, with classes: a path or URI",
        examples=["segmented.zarr"],
    )


class CorrectionsOptions(BaseModel):
    """Where corrections lie, and what is done with them."""

    model_config = ConfigDict(extra="forbid", title="Options")

    out: Annotated[str | None, Shell(OUTPUT, metavar="URI")] = Field(
        None,
        description="The corrections, created where they do not exist (default: beside OUTPUT, "
        "OUTPUT.corrections.zarr)",
        examples=["painted.zarr"],
    )
    apply: Annotated[str | None, Shell(OUTPUT, metavar="COPY")] = Field(
        None,
        description="Write OUTPUT with its corrections to COPY: only blocks and levels that change "
        "are computed",
        examples=["corrected.zarr"],
    )
    overwrite: Annotated[bool, Shell(OUTPUT)] = Field(False, description="Replace an existing COPY")
