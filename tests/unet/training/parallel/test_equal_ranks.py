"""The law of ranks: one batch trains the same weights, whichever ranks share it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from unet import UNetConfig
from unet.network.model import UNet
from unet.recipe.training_config import TrainingConfig
from unet.samples.maker import Batch
from unet.samples.sampling import shares
from unet.training.learner import Learner
from unet.training.parallel.sums import share_state, sum_step

STEPS = 5
NETWORK = UNetConfig(dims=2, base_channels=4, levels=2, dropout=0.5, norm="batch")
TRAINING = TrainingConfig(steps=STEPS, precision="fp32", learning_rate=3e-3, schedule="constant")


def batch_of(step, numbers):
    """Return patches of some numbers; each is a function of step and number."""
    patches = []
    for number in numbers:
        generator = torch.Generator().manual_seed(100 * step + number)
        x = torch.randn(1, 1, *NETWORK.input_shape((16, 16)), generator=generator)
        classes = torch.randint(0, 2, (1, 16, 16), generator=generator)
        weights = torch.rand(1, 16, 16, generator=generator)
        patches.append((x + 0.5 * number, classes, weights))
    return Batch(*map(torch.cat, zip(*patches, strict=True)), tuple(numbers))


def trained(network, *, batch, start, rank=0, world_size=1):
    """Return the weights, and the losses of the whole batch, after some steps as one rank."""
    learner = Learner(network, TRAINING, device="cpu", world_size=world_size)
    learner.restore(start)
    losses = []
    for step in range(STEPS):
        part = batch_of(step, shares(batch, rank=rank, world_size=world_size))
        loss = learner.step(part, step=step, batch_size=batch)
        known = sum_step(
            loss=float(loss), stops=False, regroups=rank == 1, waited_s=float(rank), rank=rank,
            world_size=world_size, device=learner.device,
        )  # fmt: skip
        assert known.regroups == (world_size > 1)
        assert known.waited_s == world_size - 1
        assert not known.stops
        losses.append(known.loss)
        learner.update(step)
    return learner.model.state_dict() | {f"ema {k}": v for k, v in learner.ema.items()}, losses


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize(("batch", "world_size"), [(4, 2), (4, 4), (3, 2)])
def test_a_batch_trains_the_same_weights_on_any_number_of_ranks(
    norm, batch, world_size, thread_ranks
):
    network = replace(NETWORK, norm=norm)
    start = Learner(network, TRAINING, device="cpu").checkpoint(0, {})
    whole, losses = trained(network, batch=batch, start=start)
    found = thread_ranks(
        lambda rank: trained(network, batch=batch, start=start, rank=rank, world_size=world_size),
        world_size=world_size,
    )
    for weights, total in found:
        assert total == pytest.approx(losses, rel=1e-5)
        for name, value in whole.items():
            torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-5, msg=name)
    moved = [float((whole[name] - start.model[name]).abs().max()) for name in start.model]
    assert max(moved) > 1e-2


def test_ranks_begin_with_the_weights_of_the_first_one(thread_ranks):
    def weights(rank):
        training = replace(TRAINING, seed=rank)  # as if a machine had other random numbers
        return Learner(NETWORK, training, device="cpu", world_size=2).model.state_dict()

    one, other = thread_ranks(weights, world_size=2)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_ranks_share_tensors_of_any_layout(thread_ranks):
    def weights(rank):
        torch.manual_seed(rank)
        layer = torch.nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
        share_state(layer)
        return layer.weight.detach()

    one, other = thread_ranks(weights, world_size=2)
    assert torch.equal(one, other)


def limited_to(monkeypatch, patches):
    """Let no more patches through a network at once; return how many went through each time."""
    forward, seen = UNet.forward, []

    def limited(self, x):
        seen.append(len(x))
        if len(x) > patches:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, x)

    monkeypatch.setattr(UNet, "forward", limited)
    return seen


def test_patches_that_do_not_fit_the_memory_at_once_train_the_same_weights(monkeypatch):
    network = replace(NETWORK, norm="none")
    start = Learner(network, TRAINING, device="cpu").checkpoint(0, {})
    whole, _ = trained(network, batch=5, start=start)
    seen = limited_to(monkeypatch, 2)
    parts, _ = trained(network, batch=5, start=start)
    assert seen == [5, *[2, 2, 1] * STEPS]
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=0, atol=1e-5, msg=name)


def test_a_batch_with_batch_norm_and_a_patch_that_does_not_fit_run_out_of_memory(monkeypatch):
    start = Learner(NETWORK, TRAINING, device="cpu").checkpoint(0, {})
    seen = limited_to(monkeypatch, 2)
    with pytest.raises(torch.OutOfMemoryError):
        trained(NETWORK, batch=3, start=start)
    assert seen == [3], "half a batch has other statistics"
    limited_to(monkeypatch, 0)
    network = replace(NETWORK, norm="none")
    start = Learner(network, TRAINING, device="cpu").checkpoint(0, {})
    with pytest.raises(torch.OutOfMemoryError):
        trained(network, batch=1, start=start)
