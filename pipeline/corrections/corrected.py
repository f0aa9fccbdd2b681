"""The stored voxels of classes and scores once a person has corrected them: pure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def corrected(stored: NDArray[Any], painted: NDArray[np.uint8], *, per_class: bool) -> NDArray[Any]:
    """Return stored classes, or scores with an axis of classes first, with what is painted.

    painted: per voxel, 0 where unknown, k + 1 for class k. The score of a painted class is 1 (255
    as uint8), that of the others is 0.

    >>> corrected(np.array([0, 0, 1], np.uint8), np.array([0, 2, 1], np.uint8), per_class=False)
    array([0, 1, 0], dtype=uint8)
    """
    known = painted > 0
    chosen = painted - known  # class k where known, else 0
    if not per_class:
        return np.where(known, chosen, stored).astype(stored.dtype)
    numbers = np.arange(len(stored)).reshape(-1, *(1,) * painted.ndim)
    scores = (chosen[None] == numbers) * _full(stored.dtype)
    return np.where(known[None], scores, stored).astype(stored.dtype)


def has_changes(stored: NDArray[Any], painted: NDArray[np.uint8], *, per_class: bool) -> bool:
    """Return whether a painted voxel differs from what is stored."""
    return not np.array_equal(corrected(stored, painted, per_class=per_class), stored)


def _full(dtype: np.dtype[Any]) -> int | float:
    """Return the stored score of certainty."""
    return int(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0
