"""The request for a segmentation, checked once, on creation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, get_args

from ..base.choices import Engine, OmeVersion, OutputName, ScoresDtype
from ..base.errors import OutputError, PlanError
from ..base.geometry import Shape
from ..base.location import Location
from ..output.kinds import OUTPUT_KINDS, SCORES
from ..planning.shares import Share
from ..volume.volume import VolumeSource, find_volume


class SegmentSettings(TypedDict, total=False):
    """The optional fields of SegmentRequest, as keyword arguments of ``segment_volume``."""

    level: int | str | None
    channel: int | str | tuple[int | str, ...] | None
    time: int | None
    axes: str | None
    outputs: tuple[OutputName, ...]
    scores_dtype: ScoresDtype
    normalisation: Mapping[str, Any] | None
    block: Shape | None
    tile: Shape | None
    tile_memory_bytes: int
    engine: Engine
    format: OmeVersion
    overwrite: bool
    allow_seams: bool
    retries: int
    shard: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRequest:
    """A request for a segmentation; the same from Python, shell and Prefect. Shapes are z, y, x.

    ``input`` and ``output`` may be passed as text, which is parsed here.
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
    """A record (see intensity.py); by default, that of the weights."""
    block: Shape | None = None
    tile: Shape | None = None
    tile_memory_bytes: int = 2**31
    """Device memory for one tile; larger tiles cost fewer operations per voxel."""
    engine: Engine = "store"
    format: OmeVersion = "0.5"
    overwrite: bool = False
    allow_seams: bool = False
    retries: int = 2
    shard: str | None = None
    """The share of the volume that this run does, like ``"2/3"``; other runs do the others."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "input", Location.parse(self.input))
        object.__setattr__(self, "output", Location.parse(self.output, kind=OutputError))
        object.__setattr__(self, "outputs", tuple(sorted(set(self.outputs))))
        if not self.outputs or set(self.outputs) - set(OUTPUT_KINDS):
            some = " or ".join(OUTPUT_KINDS)
            raise PlanError(f"outputs {','.join(self.outputs)!r}: expected {some}, one or more")
        choices = {
            "scores dtype": (self.scores_dtype, SCORES.dtypes),
            "engine": (self.engine, get_args(Engine)),
            "format": (self.format, get_args(OmeVersion)),
        }
        for name, (value, allowed) in choices.items():
            if value not in allowed:
                raise PlanError(f"{name} {value!r}: expected {' or '.join(allowed)}")
        if self.retries < 0 or self.tile_memory_bytes <= 0:
            raise PlanError(
                f"retries ({self.retries}) and tile memory ({self.tile_memory_bytes}): "
                "expected at least 0 retries and more than 0 bytes"
            )
        if self.share and self.overwrite:
            raise PlanError(
                f"--overwrite with --shard {self.shard}: each share would delete the others' "
                f"blocks; delete {self.output} first, then start the shares without it"
            )

    @property
    def share(self) -> Share | None:
        """``shard`` as numbers. Raises PlanError."""
        return None if self.shard is None else Share.parse(self.shard)

    def find_source(self, *, level: int | str | None) -> VolumeSource:
        """Return the input volume at a level. Raises VolumeError."""
        return find_volume(
            self.input, level=level, channel=self.channel, time=self.time, axes=self.axes
        )
