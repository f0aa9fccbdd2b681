"""The laws of one training step: optimisers, their settings and the running mean, by formula."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import asarray

from pipeline.evaluation.confusion import ConfusionMatrix
from unet import UNetConfig
from unet.recipe.training_config import TrainingConfig
from unet.samples.maker import Batch
from unet.scoring.class_tally import scores_of
from unet.training.learner import Learner, make_optimiser

NETWORK = UNetConfig(dims=2, base_channels=2, levels=2, dropout=0.0)
STEPS = 4


def module():
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2).double()


def gradients():
    torch.manual_seed(1)
    return [[torch.randn(2, 3).double(), torch.randn(2).double()] for _ in range(STEPS)]


def stepped(training):
    model = module()
    optimiser = make_optimiser(model, training)
    for found in gradients():
        model.weight.grad, model.bias.grad = (gradient.clone() for gradient in found)
        optimiser.step()
    return model.weight.detach(), model.bias.detach()


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_follows_its_formula_and_decays_no_bias(nesterov):
    rate, momentum, decay = 0.1, 0.7, 0.05
    training = TrainingConfig(
        optimiser="nesterov" if nesterov else "sgd", learning_rate=rate, momentum=momentum,
        weight_decay=decay,
    )  # fmt: skip
    model = module()
    for value, number, own_decay in ((model.weight, 0, decay), (model.bias, 1, 0.0)):
        expected, velocity = value.detach().clone(), None
        for found in gradients():
            slope = found[number] + own_decay * expected
            velocity = slope if velocity is None else momentum * velocity + slope
            expected = expected - rate * (slope + momentum * velocity if nesterov else velocity)
        torch.testing.assert_close(stepped(training)[number], expected)


def test_adamw_follows_its_formula_and_decays_no_bias():
    rate, beta, decay = 0.1, 0.6, 0.05
    training = TrainingConfig(
        optimiser="adamw", learning_rate=rate, momentum=beta, weight_decay=decay
    )
    model = module()
    for value, number, own_decay in ((model.weight, 0, decay), (model.bias, 1, 0.0)):
        expected = value.detach().clone()
        mean, square = torch.zeros_like(expected), torch.zeros_like(expected)
        for step, found in enumerate(gradients(), start=1):
            expected = expected * (1 - rate * own_decay)
            mean = beta * mean + (1 - beta) * found[number]
            square = 0.999 * square + 0.001 * found[number] ** 2
            spread = (square / (1 - 0.999**step)).sqrt() + 1e-8
            expected = expected - rate * mean / (1 - beta**step) / spread
        torch.testing.assert_close(stepped(training)[number], expected)


def batch():
    torch.manual_seed(2)
    shape = (1, 16, 16)
    size = NETWORK.input_shape(shape[1:])
    classes = torch.randint(0, 2, shape)
    return Batch(torch.randn(1, 1, *size), classes, torch.ones(shape))


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
def test_every_step_has_the_schedule_s_learning_rate(schedule):
    training = TrainingConfig(steps=10, schedule=schedule, precision="fp32")
    learner = Learner(NETWORK, training, device="cpu")
    for step in range(training.steps):
        learner.step(batch(), step=step, batch_size=1)
        rates = {group["lr"] for group in learner.optimiser.param_groups}
        assert rates == {training.learning_rate_at(step)}


def test_the_mean_of_the_weights_follows_its_formula():
    training = TrainingConfig(
        steps=30, ema=0.8, precision="fp32", learning_rate=0.05, schedule="constant"
    )
    learner = Learner(NETWORK, training, device="cpu")
    name = "head.weight"
    expected = learner.model.state_dict()[name].clone()
    for step in range(training.steps):
        learner.step(batch(), step=step, batch_size=1)
        learner.update(step)
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * learner.model.state_dict()[name]
    torch.testing.assert_close(learner.ema[name], expected)
    torch.testing.assert_close(learner.best().state_dict()[name], expected)
    assert float((expected - learner.model.state_dict()[name]).abs().max()) > 1e-3


def test_gradients_are_clipped_to_the_norm_and_no_shorter():
    def norm(limit):
        training = replace(TrainingConfig(precision="fp32"), gradient_norm=limit)
        learner = Learner(NETWORK, training, device="cpu")
        learner.step(batch(), step=0, batch_size=1)
        squares = [(p.grad**2).sum() for p in learner.model.parameters()]
        return float(torch.stack(squares).sum().sqrt())

    free = norm(None)
    assert norm(free / 3) == pytest.approx(free / 3, rel=1e-3)
    assert norm(3 * free) == pytest.approx(free, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 4))
def test_a_training_s_scores_are_those_of_an_evaluation(data, classes):
    row = st.lists(st.integers(0, 50), min_size=classes, max_size=classes)
    counts = data.draw(st.lists(row, min_size=classes, max_size=classes))
    found = scores_of(0.0, asarray(counts, float))
    matrix = ConfusionMatrix(counts=tuple(map(tuple, counts)))
    for name in ("pixel_error", "mean_iou", "iou", "dice"):
        assert getattr(found, name) == pytest.approx(getattr(matrix, name)), name
