"""The squared difference of score and target: of distances, and of affinities and centres."""

from __future__ import annotations

from torch import Tensor

from .loss import Loss


def squared_error(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over all voxels and channels of ``w (p - t)**2``, p the sigmoid of the logit.

    The sum is divided by all voxels, the unknown ones too.
    """
    difference = logits.float().sigmoid() - targets
    return (weights * difference.square()).sum() / targets.numel()


SQUARED_ERROR = Loss(outputs=("distance", "centre", "affinities"), compute=squared_error)
