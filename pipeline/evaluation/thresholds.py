"""One score at many thresholds, counted in one pass, exact over blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import VolumeError
from .confusion import ConfusionMatrix


def count_scores(
    truth: NDArray[np.bool_], scores: NDArray[np.float32], *, thresholds: Sequence[float]
) -> NDArray[np.int64]:
    """Count voxels by truth and by the highest threshold that their score reaches.

    thresholds: ascending. Returns (2, thresholds + 1): ``[t, k]`` voxels of truth t whose score
    reaches k of the thresholds. Arrays of blocks can be added.
    """
    reached = np.searchsorted(np.asarray(thresholds, scores.dtype), scores.ravel(), side="right")
    bins = len(thresholds) + 1
    counts = np.bincount(truth.ravel() * bins + reached, minlength=2 * bins)
    return counts.reshape(2, bins).astype(np.int64)


def confusion_at(counts: NDArray[np.int64]) -> tuple[ConfusionMatrix, ...]:
    """Return the matrix of every threshold; class 1 is predicted where ``score >= threshold``."""
    below = np.cumsum(counts, axis=1)[:, :-1]
    above = counts.sum(axis=1, keepdims=True) - below
    return tuple(
        ConfusionMatrix(
            counts=(
                (int(below[0, k]), int(above[0, k])),
                (int(below[1, k]), int(above[1, k])),
            )
        )
        for k in range(below.shape[1])
    )


def as_scores(stored: NDArray[Any], *, where: str) -> NDArray[np.float32]:
    """Return stored scores as probabilities 0..1; unsigned integers mean 0..their largest value.

    Raises VolumeError for values that are not scores.
    """
    if stored.dtype.kind == "u":
        return np.divide(stored, np.iinfo(stored.dtype).max, dtype=np.float32)
    scores = stored.astype(np.float32)
    if bad := scores.size - int(np.count_nonzero(np.isfinite(scores))):
        raise VolumeError(
            f"{where} holds {stored.dtype}, and {bad:,} of {scores.size:,} values read are NaN or "
            "infinite: expected scores as floats from 0 to 1"
        )
    if stored.dtype.kind != "f" or not (scores.min() >= 0 and scores.max() <= 1):
        raise VolumeError(
            f"{where} holds {stored.dtype} from {stored.min()} to {stored.max()}: expected scores "
            "as floats from 0 to 1, or as unsigned integers"
        )
    return scores
