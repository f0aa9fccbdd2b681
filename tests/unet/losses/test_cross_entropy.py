"""Laws of the loss: the paper's sum, the ignored voxels, and ranks that share a batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from unet.losses.cross_entropy import weighted_cross_entropy
from unet.samples.rules.rule import IGNORED


def batch(*space: int, n: int = 4, classes: int = 3, seed: int = 0) -> tuple[Tensor, ...]:
    """Return logits, classes (the first samples mostly ignored) and weights."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, classes, *space, generator=generator)
    labels = torch.randint(classes, (n, *space), generator=generator)
    ignored = torch.rand(n, *space, generator=generator) < torch.linspace(0.9, 0, n).reshape(
        n, *(1,) * len(space)
    )
    weights = 10 * torch.rand(n, *space, generator=generator)
    return logits, labels.masked_fill(ignored, IGNORED), weights


@pytest.mark.parametrize("space", [(5, 7), (3, 4, 5)])
def test_the_loss_is_the_papers_sum_over_all_voxels_divided_by_their_number(
    space: tuple[int, ...],
) -> None:
    logits, classes, weights = batch(*space)
    total = 0.0
    scores = np.moveaxis(logits.double().numpy(), 1, -1)
    for place in np.ndindex(*classes.shape):
        if classes[place] != IGNORED:
            exponentials = np.exp(scores[place])
            p = exponentials[int(classes[place])] / exponentials.sum()
            total += -float(weights[place]) * math.log(p)
    loss = weighted_cross_entropy(logits, classes, weights)
    assert float(loss) == pytest.approx(total / classes.numel(), rel=1e-5)


def test_without_weights_every_voxel_has_weight_one() -> None:
    logits, classes, weights = batch(6, 6)
    plain = weighted_cross_entropy(logits, classes)
    assert plain == weighted_cross_entropy(logits, classes, torch.ones_like(weights))


def test_the_mean_over_ranks_is_the_loss_of_the_whole_batch_however_many_voxels_they_ignore() -> (
    None
):
    logits, classes, weights = batch(6, 6)
    logits.requires_grad_()
    whole = weighted_cross_entropy(logits, classes, weights)
    (gradient,) = torch.autograd.grad(whole, logits)
    parts = [
        weighted_cross_entropy(logits[i : i + 1], classes[i : i + 1], weights[i : i + 1])
        for i in range(4)
    ]
    mean = torch.stack(parts).mean()
    (mean_gradient,) = torch.autograd.grad(mean, logits)
    torch.testing.assert_close(mean, whole, rtol=1e-6, atol=0)
    torch.testing.assert_close(mean_gradient, gradient, rtol=1e-6, atol=1e-9)


def test_an_ignored_voxel_has_no_gradient_and_only_ignored_voxels_have_a_loss_of_zero() -> None:
    logits, classes, weights = batch(6, 6)
    logits.requires_grad_()
    loss = weighted_cross_entropy(logits, classes, weights)
    (gradient,) = torch.autograd.grad(loss, logits)
    untouched = (gradient == 0).all(dim=1)
    assert bool((untouched == (classes == IGNORED)).all())
    assert weighted_cross_entropy(logits, torch.full_like(classes, IGNORED), weights) == 0


def test_bfloat16_logits_are_computed_in_float32() -> None:
    logits, classes, weights = batch(6, 6)
    half = logits.bfloat16()
    loss = weighted_cross_entropy(half, classes, weights)
    assert loss.dtype == torch.float32
    assert loss == weighted_cross_entropy(half.float(), classes, weights)
