"""The laws of a network that starts with the tensors of another one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unet import UNet, UNetConfig
from unet.network.adapt import adapted_tensors, spread_over_channels

CONVOLVE = {2: torch.nn.functional.conv2d, 3: torch.nn.functional.conv3d}


@settings(max_examples=20)
@given(dims=st.sampled_from([2, 3]), before=st.integers(1, 4), now=st.integers(1, 6))
def test_the_same_image_in_all_channels_has_the_response_of_the_old_first_layer(dims, before, now):
    torch.manual_seed(dims + 10 * before + 100 * now)
    kernels = torch.randn(3, before, *(3,) * dims)
    image = torch.randn(1, 1, *(7,) * dims)

    def response(weight):
        return CONVOLVE[dims](image.expand(-1, weight.shape[1], *image.shape[2:]), weight)

    torch.testing.assert_close(response(spread_over_channels(kernels, now)), response(kernels))


def test_kernels_of_as_many_channels_are_unchanged():
    kernels = torch.randn(4, 3, 3, 3)
    assert spread_over_channels(kernels, 3) is kernels


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("before", "now"), [(1, 3), (3, 1), (2, 2)])
def test_a_network_of_other_channels_scores_as_the_old_one_does(dims, before, now, network):
    config = UNetConfig(dims=dims, base_channels=2, levels=2, in_channels=before, dropout=0.0)
    old, new = network(config).double(), UNet(replace(config, in_channels=now)).double().eval()
    new.load_state_dict(adapted_tensors(old.state_dict(), new.state_dict(), with_head=True))
    image = torch.rand(1, 1, *config.input_shape((8,) * dims), dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(
            new(image.expand(-1, now, *image.shape[2:])),
            old(image.expand(-1, before, *image.shape[2:])),
        )


def test_a_fresh_head_is_that_of_the_new_network_and_all_else_that_of_the_old(network):
    config = UNetConfig(base_channels=2, levels=2, norm="batch")
    old, fresh = network(config).state_dict(), UNet(replace(config, classes=4)).state_dict()
    taken = adapted_tensors(old, fresh, with_head=False)
    assert list(taken) == list(fresh)
    for name, tensor in taken.items():
        assert torch.equal(tensor, fresh[name] if name.startswith("head.") else old[name]), name
