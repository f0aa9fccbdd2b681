"""The focal loss: voxels that are right already count less."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ..samples.rules.rule import IGNORED
from .loss import Loss

GAMMA = 2.0
"""As in the paper's best network."""


def focal_loss(logits: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over all voxels of ``w (1 - p)**2 * -log p``, p the score of the true class.

    Lin et al. 2017, "Focal loss for dense object detection", eq. 5 with gamma 2; w takes the place
    of its alpha. The sum is divided by all voxels, the ignored ones too.
    """
    entropy = F.cross_entropy(logits.float(), classes, ignore_index=IGNORED, reduction="none")
    wrong = 1 - (-entropy).exp()
    return (wrong**GAMMA * entropy * weights).sum() / classes.numel()


FOCAL = Loss(outputs=("classes",), compute=focal_loss)
