"""Sums over the blocks of runs: voxels, bytes, seconds per stage. The output stores them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .block_result import BlockResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Sums over blocks that are done, of one run or of several."""

    blocks: int = 0
    voxels: int = 0
    bytes_read: int = 0
    bad_voxels: int = 0
    class_voxels: tuple[int, ...] = ()
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    """By stage (read, wait, device, write), summed over the threads of all workers."""
    seconds: float = 0.0
    """Wall time of the runs."""

    def __add__(self, other: Figures) -> Figures:
        stages = sorted({*self.stage_seconds, *other.stage_seconds})
        classes = itertools.zip_longest(self.class_voxels, other.class_voxels, fillvalue=0)
        return Figures(
            blocks=self.blocks + other.blocks,
            voxels=self.voxels + other.voxels,
            bytes_read=self.bytes_read + other.bytes_read,
            bad_voxels=self.bad_voxels + other.bad_voxels,
            class_voxels=tuple(a + b for a, b in classes),
            stage_seconds={
                stage: self.stage_seconds.get(stage, 0.0) + other.stage_seconds.get(stage, 0.0)
                for stage in stages
            },
            seconds=self.seconds + other.seconds,
        )

    def with_block(self, result: BlockResult) -> Figures:
        """Return these figures plus those of a block."""
        return self + Figures(
            blocks=int(not result.is_skipped),
            voxels=result.voxels,
            bytes_read=result.bytes_read,
            bad_voxels=result.bad_voxels,
            class_voxels=result.class_voxels,
            stage_seconds=result.seconds,
        )

    def with_seconds(self, seconds: float) -> Figures:
        """Return these figures plus wall time."""
        return replace(self, seconds=self.seconds + seconds)

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {**asdict(self), "class_voxels": list(self.class_voxels)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> Figures:
        """Return the figures that :meth:`to_json` wrote; zeros for None."""
        if not value:
            return cls()
        return cls(**{**value, "class_voxels": tuple(value.get("class_voxels", ()))})
