"""The difference of score and target, squared where it is small: outliers count less."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from .loss import Loss

BETA = 0.1
"""Difference of scores up to which it is squared."""


def smooth_l1(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over all voxels and channels of ``w h(p - t)``, p the sigmoid of the logit.

    ``h(d)`` is ``d**2 / (2 beta)`` up to beta = 0.1 and ``|d| - beta / 2`` above (Girshick 2015,
    "Fast R-CNN", with beta in scores). The sum is divided by all voxels, the unknown ones too.
    """
    scores = logits.float().sigmoid()
    loss = F.smooth_l1_loss(scores, targets, reduction="none", beta=BETA)
    return (weights * loss).sum() / targets.numel()


SMOOTH_L1 = Loss(outputs=("distance", "centre"), compute=smooth_l1)
