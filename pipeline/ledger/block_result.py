"""What the driver records of a finished block."""

from __future__ import annotations

from dataclasses import dataclass

from ..base.geometry import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockResult:
    """What a worker reports of a finished block."""

    index: Shape
    voxels: int
    bytes_read: int
    bad_voxels: int
    """Voxels of the core that were NaN or infinite; they went in as 0."""
    class_voxels: tuple[int, ...]
    seconds: dict[str, float]
    """Per stage, on the worker."""
