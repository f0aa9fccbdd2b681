"""Lengths in integer steps: thousandths of the unit (nm for µm)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...base.geometry import Shape

STEPS: Final = 1000
"""Integer steps per unit of length."""


def in_steps(length: float) -> int:
    """Return a length in integer steps.

    >>> in_steps(0.5)
    500
    """
    return round(length * STEPS)


def distance_halo(limit: int, spacing: Sequence[int]) -> Shape:
    """Return how many voxels away a voxel can lie within the limit, per axis; both in steps.

    >>> distance_halo(2000, (1000, 400, 400))
    (2, 5, 5)
    """
    return tuple(limit // step for step in spacing)
