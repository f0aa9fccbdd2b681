"""The sizes that an image states, checked before anything is computed from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, TypeGuard

from ...base.errors import VolumeError
from ...base.text import brief, shape_text

MOST_VOXELS: Final = 2**60
"""An exabyte of uint8: a hundred times the largest volume that was imaged. More is a mistake."""


def check_extent(shape: Sequence[int], where: str) -> None:
    """Raise VolumeError for a shape that has no voxel, or more than any store holds."""
    if min(shape, default=1) < 0:
        raise VolumeError(f"{where} is damaged: its shape {brief(list(shape))} has a negative size")
    if 0 in shape:
        raise VolumeError(f"{where} is empty: its shape is {shape_text(shape)}")
    if math.prod(shape) > MOST_VOXELS:
        raise VolumeError(
            f"{where} is damaged: its shape {brief(list(shape))} has more than {MOST_VOXELS:.1e} "
            "voxels, which no store holds; correct its metadata"
        )


def whole_numbers(values: Any) -> TypeGuard[list[int]]:
    """Return whether a value of a document is a list of integers, none of them a bool."""
    return isinstance(values, list) and all(type(value) is int for value in values)
