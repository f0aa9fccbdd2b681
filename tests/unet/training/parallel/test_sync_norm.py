"""The laws of synchronised norms: ranks together compute what torch computes on the whole batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unet import UNet, UNetConfig
from unet.training.parallel.idle_biases import fix_idle_biases
from unet.training.parallel.sync_norm import SyncNorm, synchronise_norms

CHANNELS = 3
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def layer_of(dims):
    torch.manual_seed(0)
    layer = NORM[dims](CHANNELS).double()
    with torch.no_grad():
        for tensor in (layer.weight, layer.bias, layer.running_mean):
            tensor.uniform_(0.5, 2)
    return layer


def batch_of(dims, *, patches=5):
    torch.manual_seed(1)
    x = 3 * torch.randn(patches, CHANNELS, *(6, 5, 4)[:dims], dtype=torch.float64) + 7
    return x, torch.randn_like(x)


def passed(layer, x, slope):
    """Return output and gradients of a layer, and its running statistics."""
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(slope)
    return y.detach(), x.grad, layer.weight.grad, layer.bias.grad, layer.state_dict()


@pytest.mark.parametrize("parts", [[(0, 3), (3, 5)], [(0, 1), (1, 2), (2, 5)]])
@pytest.mark.parametrize("dims", [2, 3])
def test_values_and_gradients_are_those_of_torch_s_norm_on_the_whole_batch(
    dims, parts, thread_ranks
):
    x, slope = batch_of(dims)
    whole = passed(layer_of(dims), x, slope)

    layers = [layer_of(dims) for _ in parts]  # here: the threads share one random generator

    def rank(number):
        here = slice(*parts[number])
        return passed(SyncNorm(layers[number]), x[here], slope[here])

    found = thread_ranks(rank, world_size=len(parts))
    for entry in (0, 1):  # output and its input's gradient: each rank has its part
        joined = torch.cat([one[entry] for one in found])
        torch.testing.assert_close(joined, whole[entry], rtol=0, atol=1e-6)
    for entry in (2, 3):  # gradients of weight and bias: the ranks add up
        torch.testing.assert_close(sum(one[entry] for one in found), whole[entry])
    for one in found:  # the running statistics are the same on each
        torch.testing.assert_close(one[4], whole[4], rtol=1e-6, atol=1e-6)


def test_a_synchronised_norm_in_inference_is_torch_s_and_sends_nothing():
    x, _ = batch_of(2)
    layer = layer_of(2).eval()
    assert torch.equal(SyncNorm(layer)(x), layer(x))


def test_synchronised_networks_have_the_tensors_of_the_others():
    model = UNet(UNetConfig(dims=2, base_channels=2, levels=2, norm="batch"))
    before, parameters = model.state_dict(), [id(one) for one in model.parameters()]
    synchronise_norms(model)
    assert sum(isinstance(layer, SyncNorm) for layer in model.modules()) == 6
    assert [id(one) for one in model.parameters()] == parameters
    assert list(model.state_dict()) == list(before)
    assert all(value.data_ptr() == before[name].data_ptr() for name, value in
               model.state_dict().items())  # fmt: skip


@pytest.mark.parametrize(
    ("norm", "idle"), [("batch", 7), ("instance", 7), ("group", 0), ("none", 0)]
)
def test_biases_that_a_norm_removes_change_nothing_and_are_not_trained(norm, idle):
    torch.manual_seed(0)
    config = UNetConfig(dims=2, base_channels=8, levels=2, norm=norm, dropout=0.0)
    model = UNet(config).train()
    x = torch.randn(2, 1, *config.input_shape((8, 8)))
    before = model(x)
    fix_idle_biases(model)
    fixed = [one for one in model.parameters() if not one.requires_grad]
    assert len(fixed) == idle
    with torch.no_grad():
        for bias in fixed:
            bias.add_(torch.randn_like(bias))
    torch.testing.assert_close(model(x), before, rtol=0, atol=1e-5)
    if idle:
        with torch.no_grad():
            for name, one in model.named_parameters():
                if name.endswith("bias") and one.requires_grad:
                    one.add_(1)
        assert float((model(x) - before).detach().abs().max()) > 0.1
