"""The result that a worker returns to the driver."""

from __future__ import annotations

from dataclasses import dataclass

from ..base.geometry import Shape
from ..output.cells import CellDigest


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockResult:
    """What a worker reports about a block that ended."""

    index: Shape
    voxels: int
    bytes_read: int
    bad_voxels: int
    """Voxels of the core that were NaN or infinite; they were read as 0."""
    class_voxels: tuple[int, ...]
    seconds: dict[str, float]
    """By stage, on the worker."""
    is_skipped: bool = False
    """Nothing was computed or written: the block is background."""
    is_copied: bool = False
    """What was computed is that of an earlier output, for the same input."""
    digests: tuple[CellDigest, ...] = ()
    """Of what was written, one per array of the output."""
