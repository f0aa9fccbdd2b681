"""Cross-entropy and a soft Dice term, which does not depend on how rare a class is.

The overlap of scores and truth, ``2 * sum(p * g) / (sum(p) + sum(g))`` (Milletari et al. 2016, with
plain instead of squared sums, as in Isensee et al. 2021), of each patch and channel alone: a Dice
over a whole batch would depend on how its patches are divided among the ranks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ..samples.rules.rule import IGNORED
from .binary_cross_entropy import weighted_binary_cross_entropy
from .cross_entropy import weighted_cross_entropy
from .loss import Loss

SMOOTH = 1.0
"""Voxels added to both sides of the fraction: nothing found where nothing is has a Dice of 1."""


def soft_dice(scores: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Return the soft Dice (n, channel) of scores and truth from 0 to 1, (n, channel, *space).

    known: 1 or 0, broadcast to them; what is unknown counts on neither side.
    """
    space = tuple(range(2, scores.ndim))
    both = (scores * truth * known).sum(space)
    either = ((scores + truth) * known).sum(space)
    return (2 * both + SMOOTH) / (either + SMOOTH)


def cross_entropy_and_dice(logits: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted cross-entropy plus 1 minus the mean Dice of all classes but background.

    Weights count in the first term alone.
    """
    known = classes != IGNORED
    one_hot = F.one_hot(classes.where(known, 0), logits.shape[1]).movedim(-1, 1).float()
    scores = logits.float().softmax(dim=1)
    dice = soft_dice(scores[:, 1:], one_hot[:, 1:], known[:, None])
    return weighted_cross_entropy(logits, classes, weights) + (1 - dice).mean()


def binary_cross_entropy_and_dice(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted binary cross-entropy plus 1 minus the mean Dice of all channels.

    A channel's Dice is the mean of those of its ones and of its zeros, as either may be rare: of
    affinities the zeros are, of centres the ones.
    """
    known = (weights > 0).float()
    scores = torch.sigmoid(logits.float())
    dice = (soft_dice(scores, targets, known) + soft_dice(1 - scores, 1 - targets, known)) / 2
    return weighted_binary_cross_entropy(logits, targets, weights) + (1 - dice).mean()


CROSS_ENTROPY_AND_DICE = Loss(outputs=("classes",), compute=cross_entropy_and_dice)
BINARY_CROSS_ENTROPY_AND_DICE = Loss(
    outputs=("affinities", "centre"), compute=binary_cross_entropy_and_dice
)
