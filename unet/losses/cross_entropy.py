"""The paper's loss: a voxel-wise softmax, its cross-entropy, and a weight per voxel."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ..samples.rules.rule import IGNORED
from .loss import Loss


def weighted_cross_entropy(
    logits: Tensor, classes: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Return the mean over all voxels of ``w(x) * -log softmax(logits)[class](x)``, a scalar.

    Ronneberger et al. 2015, eq. 1: ``E = sum over x of w(x) log p_l(x)(x)``, with the sign of a
    loss. logits: (n, c, *space) of any float dtype, computed in float32; classes: (n, *space)
    int64, where IGNORED adds nothing; weights: (n, *space), or None for 1 everywhere.

    The sum is divided by all voxels, the ignored ones too: a constant of the shape. So the mean of
    the losses (and gradients) of N ranks with B/N samples each is that of one rank with B, however
    unevenly ignored voxels or weights fall on the ranks.
    """
    entropy = F.cross_entropy(logits.float(), classes, ignore_index=IGNORED, reduction="none")
    if weights is not None:
        entropy = entropy * weights
    return entropy.sum() / classes.numel()


CROSS_ENTROPY = Loss(outputs=("classes",), compute=weighted_cross_entropy)
