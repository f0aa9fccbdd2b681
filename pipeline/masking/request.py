"""The request for a proposal of a mask, checked once, on creation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from ..base.choices import ThresholdMethod, Tissue
from ..base.errors import OutputError, PlanError
from ..base.location import Location


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskRequest:
    """A request for a proposal of a mask; distances are in voxels of the mask's finest axis.

    ``input`` and ``output`` may be passed as text, which is parsed here.
    """

    input: Location
    output: Location
    level: int | str | None = None
    """The level to look at; by default the finest one that is small enough."""
    channel: int | str | tuple[int | str, ...] | None = None
    time: int | None = None
    axes: str | None = None
    tissue: Tissue = "auto"
    method: ThresholdMethod = "otsu"
    closing: float = 2.0
    """Gaps of up to twice this distance are closed."""
    smallest: int = 64
    """Specks and holes of fewer voxels of the mask are removed."""
    margin: float = 0.0
    """Distance by which the mask is enlarged at the end."""
    overwrite: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "input", Location.parse(self.input))
        object.__setattr__(self, "output", Location.parse(self.output, kind=OutputError))
        for name, value, allowed in (
            ("tissue", self.tissue, get_args(Tissue)),
            ("method", self.method, get_args(ThresholdMethod)),
        ):
            if value not in allowed:
                raise PlanError(f"{name} {value!r}: expected {' or '.join(allowed)}")
        for name, distance in (("closing", self.closing), ("margin", self.margin)):
            if not math.isfinite(distance) or distance < 0:
                raise PlanError(f"{name} ({distance}): expected a distance of at least 0 voxels")
        if self.smallest < 0:
            raise PlanError(f"smallest ({self.smallest}): expected at least 0 voxels")
