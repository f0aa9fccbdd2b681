"""Which voxels of a volume a picture shows."""

from __future__ import annotations

from ..base.geometry import Box


def middle_box(within: Box, *, around: Box, side: int) -> Box:
    """Return the middle slice of ``around``, at most ``side`` wide and high, inside ``within``."""
    sizes = (1, min(within.shape[1], side), min(within.shape[2], side))
    start = tuple(
        min(max(low, a + (b - a - s) // 2), high - s)
        for low, high, a, b, s in zip(
            within.start, within.stop, around.start, around.stop, sizes, strict=True
        )
    )
    return Box(start, tuple(a + s for a, s in zip(start, sizes, strict=True)))
