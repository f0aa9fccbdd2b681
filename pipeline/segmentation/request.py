"""What a user asks of a segmentation: checked once, where it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from ..base.choices import Engine, OmeVersion, OutputName, ScoresDtype
from ..base.errors import OutputError, PlanError
from ..base.geometry import Shape
from ..base.location import Location
from ..ledger.shares import Share
from ..output.kinds import OUTPUT_KINDS, SCORES


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRequest:
    """What a user asks of a segmentation; the same at every door. Shapes are (z, y, x).

    ``input`` and ``output`` may be given as text, which is parsed here.
    """

    input: Location
    output: Location
    level: int | str | None = None
    channel: int | str | tuple[int | str, ...] | None = None
    time: int | None = None
    axes: str | None = None
    outputs: tuple[OutputName, ...] = ("classes",)
    scores_dtype: ScoresDtype = "uint8"
    normalisation: Mapping[str, Any] | None = None
    """A record (see intensity.py); by default the one that the weights were trained with."""
    block: Shape | None = None
    tile: Shape | None = None
    tile_memory_bytes: int = 2**31
    """What one tile may take on the device; larger tiles cost fewer operations per voxel."""
    engine: Engine = "store"
    format: OmeVersion = "0.5"
    overwrite: bool = False
    allow_seams: bool = False
    retries: int = 2
    shard: str | None = None
    """Which share of the volume this run does, ``"2/3"``; the others are runs of their own."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "input", Location.parse(self.input))
        object.__setattr__(self, "output", Location.parse(self.output, kind=OutputError))
        object.__setattr__(self, "outputs", tuple(sorted(set(self.outputs))))
        if not self.outputs or set(self.outputs) - set(OUTPUT_KINDS):
            some = " or ".join(OUTPUT_KINDS)
            raise PlanError(f"outputs {','.join(self.outputs)!r}: say {some}, one or more")
        choices = {
            "scores dtype": (self.scores_dtype, SCORES.dtypes),
            "engine": (self.engine, get_args(Engine)),
            "format": (self.format, get_args(OmeVersion)),
        }
        for name, (value, allowed) in choices.items():
            if value not in allowed:
                raise PlanError(f"{name} {value!r} is unknown: choose {' or '.join(allowed)}")
        if self.retries < 0 or self.tile_memory_bytes <= 0:
            raise PlanError("retries and tile memory must not be negative")
        if self.share and self.overwrite:
            raise PlanError(
                f"--overwrite with --shard {self.shard}: each share would delete what the others "
                f"did; delete {self.output} first, then start the shares without it"
            )

    @property
    def share(self) -> Share | None:
        """What ``shard`` says. Raises PlanError."""
        return None if self.shard is None else Share.parse(self.shard)
