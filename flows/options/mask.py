"""The options of a proposal of a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pipeline.base.choices import ThresholdMethod, Tissue

from .declared import Shell
from .image import IMAGE, INPUT, ImageOptions
from .values import NumberOrName

if TYPE_CHECKING:
    from pipeline.masking.request import MaskRequest

MASK, OUTPUT = "mask", "output"


class MaskFiles(BaseModel):
    """What a mask is made of, and where it is written."""

    input: Annotated[str, Shell(metavar="INPUT", positional=True)] = Field(
        description=IMAGE,
        examples=["slide.svs"],
    )
    mask: Annotated[str, Shell(metavar="MASK", positional=True)] = Field(
        description="OME-Zarr to create: 1 inside, 0 outside", examples=["tissue.zarr"]
    )


class MaskOptions(ImageOptions):
    """How to find the tissue. Distances are in voxels of the mask."""

    model_config = ConfigDict(extra="forbid", title="Options")

    level: Annotated[NumberOrName | None, Shell(INPUT)] = Field(
        None,
        description="Level to look at (default: the finest of at most 1 million voxels, 4 million "
        "of a stack; if all are larger, means of voxels)",
        examples=["3"],
    )
    tissue: Annotated[Tissue, Shell(MASK)] = Field(
        "auto",
        description="What tissue is; auto: more saturated than the glass of an RGB slide, else the "
        "opposite of the image's border",
    )
    method: Annotated[ThresholdMethod, Shell(MASK)] = Field(
        "otsu", description="How the threshold is chosen; triangle suits little tissue"
    )
    closing: Annotated[float, Shell(MASK, metavar="VOXELS")] = Field(
        2.0, ge=0, description="Gaps up to twice this wide are closed"
    )
    smallest: Annotated[int, Shell(MASK, metavar="VOXELS")] = Field(
        64, ge=0, description="Specks and holes of fewer voxels are removed"
    )
    margin: Annotated[float, Shell(MASK, metavar="VOXELS")] = Field(
        0.0, ge=0, description="Distance by which the mask is enlarged at the end"
    )
    picture: Annotated[str | None, Shell(OUTPUT, metavar="PNG")] = Field(
        None, description="Picture to look at (default: MASK with the suffix .png)"
    )
    overwrite: Annotated[bool, Shell(OUTPUT)] = Field(False, description="Replace an existing mask")

    def request(self, *, input: str, mask: str) -> MaskRequest:  # noqa: A002
        """Return what the pipeline takes. Raises kinds of OvertileError."""
        from pipeline.base.errors import OutputError
        from pipeline.base.location import Location
        from pipeline.masking.request import MaskRequest

        values: dict[str, Any] = self.model_dump(exclude={"picture", "channel"})
        channel = tuple(self.channel) if isinstance(self.channel, list) else self.channel
        return MaskRequest(
            input=Location.parse(input),
            output=Location.parse(mask, kind=OutputError),
            channel=channel,
            **values,
        )
