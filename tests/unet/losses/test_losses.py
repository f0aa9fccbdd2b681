"""Laws of all losses: their formulas in float64, what is unknown, and ranks that share a batch."""

from __future__ import annotations

import re
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.base.errors import ConfigError
from pipeline.base.network_outputs import OutputsKind
from unet.losses.boundary import signed_distance
from unet.losses.registry import DEFAULT, LOSSES, loss_of
from unet.recipe.choices import LossName
from unet.samples.rules.rule import IGNORED

SPACE, PATCHES, CHANNELS = (4, 5), 3, 3
OF_CLASSES = [name for name, loss in LOSSES.items() if "classes" in loss.outputs]
OF_CHANNELS = [name for name in LOSSES if name not in OF_CLASSES]


def batch(name: str, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits (float64), targets and weights; more is unknown in the first patches."""
    generator = torch.Generator().manual_seed(seed)
    shape = (PATCHES, CHANNELS, *SPACE)
    logits = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    unknown = (
        torch.rand(shape, generator=generator) < torch.tensor([0.8, 0.3, 0.0])[:, None, None, None]
    )
    weights = 0.5 + torch.rand(shape, generator=generator)
    if name in OF_CLASSES:
        classes = torch.randint(CHANNELS, (PATCHES, *SPACE), generator=generator)
        where = unknown[:, 0]
        return logits, classes.masked_fill(where, IGNORED), weights[:, 0].masked_fill(where, 0)
    targets = torch.rand(shape, generator=generator)
    if "dice" in name:
        targets = targets.round()
    return logits, targets.masked_fill(unknown, 0), weights.masked_fill(unknown, 0)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=0))
    return e / e.sum(axis=0)


def dice(p: np.ndarray, g: np.ndarray) -> float:
    return (2 * (p * g).sum() + 1) / (p.sum() + g.sum() + 1)


def plain(name: str, logits: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> float:
    """Return the loss by its formula, voxel by voxel, in float64."""
    patches = list(zip(logits, targets, weights, strict=True))
    return float(np.mean([PLAIN[name](*patch) for patch in patches]))


def of_classes(term):
    """Return the mean over voxels of a term of the true class's score and the weight."""

    def loss(x, classes, weights):
        p, total = softmax(x), 0.0
        for place in np.ndindex(*classes.shape):
            if classes[place] != IGNORED:
                total += term(p[(classes[place], *place)]) * weights[place]
        return total / classes.size

    return loss


def of_channels(term):
    def loss(x, targets, weights):
        return (weights * term(1 / (1 + np.exp(-x)), targets)).mean()

    return loss


def entropy(p, t):
    return -(t * np.log(p) + (1 - t) * np.log(1 - p))


def class_dice(x, classes, weights):
    p, known = softmax(x), classes != IGNORED
    return np.mean([1 - dice(p[c][known], classes[known] == c) for c in range(1, len(x))])


def channel_dice(x, targets, weights):
    p, missed = 1 / (1 + np.exp(-x)), []
    for score, truth, weight in zip(p, targets, weights, strict=True):
        s, g = score[weight > 0], truth[weight > 0]
        missed.append(1 - (dice(s, g) + dice(1 - s, 1 - g)) / 2)
    return np.mean(missed)


def boundary(x, classes, weights):
    """Return the mean of score times signed distance and weight, found by trying all voxels."""
    p, total = softmax(x), 0.0
    places = np.argwhere(np.ones(SPACE))
    for c in range(1, len(x)):
        inside = classes == c
        if not inside.any():
            continue
        for place in map(tuple, places):
            if classes[place] == IGNORED:
                continue
            far = np.sqrt(np.square(places - place).sum(axis=1)).reshape(SPACE)
            phi = far[inside].min() if not inside[place] else 1 - far[~inside].min()
            total += p[(c, *place)] * phi * weights[place]
    return total / ((len(x) - 1) * classes.size)


def smooth(p, t):
    d = np.abs(p - t)
    return np.where(d < 0.1, d**2 / 0.2, d - 0.05)


PLAIN = {
    "cross-entropy": of_classes(lambda p: -np.log(p)),
    "focal": of_classes(lambda p: -((1 - p) ** 2) * np.log(p)),
    "cross-entropy+dice": lambda *patch: (
        of_classes(lambda p: -np.log(p))(*patch) + class_dice(*patch)
    ),
    "cross-entropy+boundary": lambda *patch: (
        of_classes(lambda p: -np.log(p))(*patch) + 0.01 * boundary(*patch)
    ),
    "binary-cross-entropy": of_channels(entropy),
    "binary-cross-entropy+dice": lambda *patch: of_channels(entropy)(*patch) + channel_dice(*patch),
    "squared-error": of_channels(lambda p, t: (p - t) ** 2),
    "smooth-l1": of_channels(smooth),
}


def test_names_of_recipes_and_the_registry_are_the_same_and_every_output_has_a_default() -> None:
    assert set(LOSSES) == set(get_args(LossName)) == set(PLAIN)
    for kind in get_args(OutputsKind):
        assert loss_of(None, kind) is LOSSES[DEFAULT[kind]]


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_its_formula(name: LossName) -> None:
    parts = batch(name)
    wanted = plain(name, *(part.numpy().astype(np.float64 if part.is_floating_point() else int)
                           for part in parts))  # fmt: skip
    assert float(LOSSES[name](*parts)) == pytest.approx(wanted, rel=2e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_its_gradient_is_that_of_the_formula(name: LossName) -> None:
    logits, targets, weights = batch(name, seed=1)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(LOSSES[name](logits, targets, weights), logits)
    x, t, w = logits.detach().numpy(), targets.numpy(), weights.double().numpy()
    for place in [(0, 0, 1, 1), (1, 1, 0, 3), (1, 2, 2, 2), (2, 0, 3, 4), (2, 2, 0, 0)]:
        step = np.zeros_like(x)
        step[place] = 1e-5
        wanted = (plain(name, x + step, t, w) - plain(name, x - step, t, w)) / 2e-5
        assert float(gradient[place]) == pytest.approx(wanted, rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_unknown_has_no_gradient_and_its_target_does_not_count(name: LossName) -> None:
    logits, targets, weights = batch(name)
    unknown = weights == 0
    logits.requires_grad_()
    loss = LOSSES[name](logits, targets, weights)
    (gradient,) = torch.autograd.grad(loss, logits)
    where = unknown[:, None].expand_as(gradient) if name in OF_CLASSES else unknown
    assert bool((gradient[where] == 0).all())
    assert bool((gradient[~where] != 0).any())
    if name in OF_CHANNELS:
        assert LOSSES[name](logits, targets.masked_fill(unknown, 1), weights) == loss


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_that_is_unknown_has_a_loss_of_0(name: LossName) -> None:
    logits, targets, weights = batch(name)
    nothing = torch.full_like(targets, IGNORED) if name in OF_CLASSES else torch.zeros_like(targets)
    assert float(LOSSES[name](logits, nothing, torch.zeros_like(weights))) == pytest.approx(0)


@pytest.mark.parametrize("name", LOSSES)
def test_the_mean_over_ranks_is_the_loss_of_the_whole_batch(name: LossName) -> None:
    logits, targets, weights = batch(name)
    whole = LOSSES[name](logits, targets, weights)
    parts = [
        LOSSES[name](*(part[i : i + 1] for part in (logits, targets, weights)))
        for i in range(PATCHES)
    ]
    torch.testing.assert_close(torch.stack(parts).mean(), whole, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_scores_in_bfloat16_are_computed_in_float32(name: LossName) -> None:
    logits, targets, weights = batch(name)
    half = logits.bfloat16()
    loss = LOSSES[name](half, targets, weights)
    assert loss.dtype == torch.float32
    assert loss == LOSSES[name](half.float(), targets, weights)


def test_a_region_that_fills_the_patch_or_is_absent_has_no_distance() -> None:
    assert not signed_distance(np.ones((3, 3), bool)).any()
    assert not signed_distance(np.zeros((3, 3), bool)).any()


@pytest.mark.parametrize(
    ("name", "outputs", "line"),
    [
        ("focal", "affinities",
         "training.loss (focal): it takes classes, and the network learns affinities; use one of "
         "binary-cross-entropy, binary-cross-entropy+dice, squared-error, or another labels.rule"),
        ("smooth-l1", "classes",
         "training.loss (smooth-l1): it takes distance or centre, and the network learns classes; "
         "use one of cross-entropy, cross-entropy+dice, cross-entropy+boundary, focal, or another "
         "labels.rule"),
    ],
)  # fmt: skip
def test_a_loss_of_other_outputs_is_refused_in_one_line(name, outputs, line) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(line)}$"):
        loss_of(name, outputs)
