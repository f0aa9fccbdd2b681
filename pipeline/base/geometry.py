"""Integer boxes in voxels, and the halo around them. Axes are in array order (z, y, x)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .errors import GeometryError

Shape: TypeAlias = tuple[int, ...]


def round_up(size: int, step: int) -> int:
    """Return the smallest multiple of ``step`` that is not below ``size``.

    >>> round_up(388, 16)
    400
    """
    return -(-size // step) * step


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open box of voxels: ``start`` is inside, ``stop`` is not. May lie outside a volume."""

    start: Shape
    stop: Shape

    def __post_init__(self) -> None:
        if len(self.start) != len(self.stop):
            raise GeometryError(
                f"box start {self.start} and stop {self.stop} differ in their number of axes"
            )
        if any(a > b for a, b in zip(self.start, self.stop, strict=True)):
            raise GeometryError(f"box {self.start} to {self.stop} ends before it starts")

    @classmethod
    def of_shape(cls, shape: Sequence[int]) -> Box:
        """Return the box of a whole array of this shape."""
        return cls((0,) * len(shape), tuple(shape))

    @property
    def shape(self) -> Shape:
        """Size per axis, in voxels."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def voxels(self) -> int:
        """Number of voxels inside."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Slices that cut this box out of an array. The box must not start below zero."""
        if any(a < 0 for a in self.start):
            raise GeometryError(f"box {self.start} to {self.stop} starts outside the array")
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def shifted(self, offset: Sequence[int]) -> Box:
        """Return the same box moved by ``offset`` voxels."""
        return Box(
            tuple(a + o for a, o in zip(self.start, offset, strict=True)),
            tuple(b + o for b, o in zip(self.stop, offset, strict=True)),
        )

    def relative_to(self, origin: Sequence[int]) -> Box:
        """Return this box in the coordinates of an array whose first voxel is ``origin``."""
        return self.shifted(tuple(-o for o in origin))

    def clipped_to(self, other: Box) -> Box:
        """Return the part of this box inside ``other``; empty where they do not overlap."""
        start = tuple(
            min(max(a, low), high)
            for a, low, high in zip(self.start, other.start, other.stop, strict=True)
        )
        stop = tuple(
            max(min(b, high), a) for a, b, high in zip(start, self.stop, other.stop, strict=True)
        )
        return Box(start, stop)

    def contains(self, other: Box) -> bool:
        """Return whether every voxel of ``other`` lies inside this box."""
        return all(a <= oa for a, oa in zip(self.start, other.start, strict=True)) and all(
            b >= ob for b, ob in zip(self.stop, other.stop, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Halo:
    """Context that a network needs around a core, in voxels, per side and axis.

    ::

        |hhhh|cccccccccccc|hhhhhh|      low = 4, high = 6
    """

    low: Shape
    high: Shape

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high):
            raise GeometryError(f"halo {self.low} and {self.high} differ in their number of axes")
        if any(size < 0 for size in (*self.low, *self.high)):
            raise GeometryError(
                f"halo {self.low}, {self.high} is negative: expected 0 or more per side"
            )

    @classmethod
    def same_on_both_sides(cls, sizes: Sequence[int]) -> Halo:
        """Return the halo that is ``sizes`` voxels wide before and behind the core."""
        return cls(tuple(sizes), tuple(sizes))

    def around(self, core: Box) -> Box:
        """Return the outer box: ``core`` and this halo."""
        return Box(
            tuple(a - low for a, low in zip(core.start, self.low, strict=True)),
            tuple(b + high for b, high in zip(core.stop, self.high, strict=True)),
        )
