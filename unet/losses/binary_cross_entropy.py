"""The cross-entropy of each channel alone: of affinities, centres and distances."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from .loss import Loss


def weighted_binary_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over all voxels and channels of ``-w (t log p + (1 - t) log (1 - p))``.

    p is the sigmoid of the logit. Targets may lie between 0 and 1, as those of a distance: the loss
    is least where p is the target. The sum is divided by all voxels, the unknown ones too.
    """
    entropy = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
    return (entropy * weights).sum() / targets.numel()


BINARY_CROSS_ENTROPY = Loss(
    outputs=("affinities", "centre", "distance"), compute=weighted_binary_cross_entropy
)
