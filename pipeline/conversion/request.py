"""The request for a conversion, checked once, on creation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from ..base.choices import OmeVersion
from ..base.errors import OutputError, PlanError
from ..base.geometry import Shape
from ..base.location import Location
from ..volume.given_size import checked_sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertRequest:
    """An image to be written as OME-Zarr. Shapes are z, y, x.

    ``input`` and ``output`` may be passed as text, which is parsed here.
    """

    input: Location
    output: Location
    level: int | str | None = None
    channel: int | str | tuple[int | str, ...] | None = None
    time: int | None = None
    axes: str | None = None
    voxel_size_um: tuple[float, ...] | None = None
    """Of the finest level, along z, y, x (y, x of a 2-D image), whatever the file states."""
    labels: bool = False
    """Whether values are labels: coarser levels take the most frequent one, not the mean."""
    shard: Shape | None = None
    chunk: Shape | None = None
    format: OmeVersion = "0.5"
    overwrite: bool = False
    retries: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "input", Location.parse(self.input))
        object.__setattr__(self, "output", Location.parse(self.output, kind=OutputError))
        object.__setattr__(self, "voxel_size_um", checked_sizes(self.voxel_size_um))
        if self.format not in get_args(OmeVersion):
            raise PlanError(f"format {self.format!r}: expected {' or '.join(get_args(OmeVersion))}")
        if self.retries < 0:
            raise PlanError(f"retries ({self.retries}): expected at least 0")
        for name, sizes in (("shard", self.shard), ("chunk", self.chunk)):
            if sizes is not None and (len(sizes) != 3 or min(sizes) < 1):
                raise PlanError(f"{name} {sizes}: expected three sizes z,y,x of at least 1")
