"""Which voxel sizes a person can state; light, because the options of the shell use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

SMALLEST_UM: Final = 1e-6
LARGEST_UM: Final = 1e6


def size_problem(sizes_um: Sequence[float]) -> str | None:
    """Return why these are not the size of a voxel in µm, and what is expected; None if they are.

    >>> size_problem((0.5, 0.2, 0.2))
    >>> size_problem((0.5, 0, 0.2))
    'a size of 0 µm: expected sizes from 0.001 nm to 1 m'
    >>> size_problem((0.5,))
    '1 size: expected three, as Z,Y,X, or two of a 2-D image, as Y,X'
    """
    count = len(sizes_um)
    if count not in (2, 3):
        counted = f"{count} size{'' if count == 1 else 's'}"
        return f"{counted}: expected three, as Z,Y,X, or two of a 2-D image, as Y,X"
    for size in sizes_um:
        if not SMALLEST_UM <= size <= LARGEST_UM:  # NaN too
            return f"a size of {size:g} µm: expected sizes from 0.001 nm to 1 m"
    return None


def sizes_text(sizes_um: Sequence[float]) -> str:
    """Return sizes as the shell takes them, in µm.

    >>> sizes_text((0.5, 0.2, 0.2))
    '0.5,0.2,0.2'
    """
    return ",".join(f"{size:g}" for size in sizes_um)
