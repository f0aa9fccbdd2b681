"""The options of a conversion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from pipeline.base.choices import OmeVersion

from .declared import Shell
from .image import IMAGE, INPUT, ImageOptions, VoxelSizeOption
from .segment import OUTPUT
from .values import Sizes

if TYPE_CHECKING:
    from pipeline.conversion.request import ConvertRequest


OutputFormat: TypeAlias = Literal["ome-zarr", "tiff", "precomputed"]


class ConvertFiles(BaseModel):
    """What a conversion reads and writes."""

    input: Annotated[str, Shell(metavar="INPUT", positional=True)] = Field(
        description=IMAGE,
        examples=["slices/"],
    )
    output: Annotated[str, Shell(metavar="OUTPUT", positional=True)] = Field(
        description="OME-Zarr to create, or resume; a name that ends in .tif is a TIFF",
        examples=["brain.zarr"],
    )


class ConvertOptions(VoxelSizeOption, ImageOptions):
    """How to convert. Every option has a default that suits most images."""

    model_config = ConfigDict(extra="forbid", title="Options")

    labels: Annotated[bool, Shell(INPUT)] = Field(
        False,
        description="The image holds labels: coarser levels take the most frequent one, not the "
        "mean",
    )
    to: Annotated[OutputFormat | None, Shell(OUTPUT)] = Field(
        None,
        description="Format of the output; tiff is for Fiji, precomputed for labels in "
        "Neuroglancer (default: tiff for a name that ends in .tif or .tiff, else ome-zarr)",
    )
    shard: Annotated[Sizes | None, Shell(OUTPUT)] = Field(
        None,
        description="Voxels of one file (default: 64,512,512, or 1,4096,4096 in 2-D)",
        examples=[(32, 1024, 1024)],
    )
    chunk: Annotated[Sizes | None, Shell(OUTPUT)] = Field(
        None, description="Voxels that are compressed together (default: about a million)"
    )
    format: Annotated[OmeVersion, Shell(OUTPUT)] = Field(
        "0.5", description="OME-Zarr version of the output; only 0.5 has shards"
    )
    overwrite: Annotated[bool, Shell(OUTPUT)] = Field(
        False, description="Replace an existing output"
    )
    retries: Annotated[int, Shell(OUTPUT)] = Field(
        2, ge=0, description="How often a failing block is tried again"
    )

    def format_of(self, output: str) -> OutputFormat:
        """Return the format of an output: as chosen, or by its name."""
        if self.to is not None:
            return self.to
        return "tiff" if output.lower().endswith((".tif", ".tiff")) else "ome-zarr"

    def check_zarr_options(self, output: str) -> None:
        """Raise OutputError for options of OME-Zarr where the output is another format."""
        from pipeline.base.errors import OutputError

        for name in ("shard", "chunk"):
            if getattr(self, name) is not None:
                raise OutputError(f"{output}: --{name} is for OME-Zarr; leave it out")

    def request(self, *, input: str, output: str) -> ConvertRequest:  # noqa: A002
        """Return what the pipeline takes. Raises kinds of OvertileError."""
        from pipeline.base.location import Location
        from pipeline.conversion.request import ConvertRequest

        values = self.model_dump(exclude={"channel", "to"})
        channel = tuple(self.channel) if isinstance(self.channel, list) else self.channel
        return ConvertRequest(
            input=Location.parse(input), output=Location.parse(output), channel=channel, **values
        )
