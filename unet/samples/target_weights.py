"""The weights of targets that are not classes: 0 where unknown, else 1, or balanced."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .rules.rule import Mask

MOST = 10.0
"""Weight of the rarer value at most, as if it were one of twenty voxels at least."""


def known_weights(known: Mask) -> NDArray[np.float32]:
    """Return 1 where a target is known, else 0: (channel, z, y, x)."""
    return known.astype(np.float32)


def balanced_weights(targets: NDArray[np.float32], known: Mask) -> NDArray[np.float32]:
    """Return weights with which the zeros and the ones of each channel weigh the same.

    Of this patch alone: ``n / (2 n_v)`` with n known voxels of the channel, n_v of them of value v,
    and at most 10. A channel with one value only has weights of 1. targets: of affinities.
    """
    weights = known_weights(known)
    for channel, (values, where) in enumerate(zip(targets, known, strict=True)):
        is_one = (values > 0.5) & where
        ones, voxels = int(is_one.sum()), int(where.sum())
        if 0 < ones < voxels:
            weights[channel][is_one] = min(MOST, voxels / (2 * ones))
            weights[channel][where & ~is_one] = min(MOST, voxels / (2 * (voxels - ones)))
    return weights
