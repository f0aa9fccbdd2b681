"""The laws of dropout: a patch's mask depends on seed, step, patch and layer, and nothing else."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from unet import UNet, UNetConfig
from unet.network.dropout import PatchDropout, kept_elements, key_dropout, mask_key

CPU = torch.device("cpu")
NETWORK = UNetConfig(dims=2, base_channels=2, levels=3, dropout=0.5)


def plain_hash(index, key):
    """Return the hash of one index, by integers of any size."""
    word = index ^ key[0]
    word ^= word >> 16
    word = word * 0x21F0AAAD % 2**32
    word ^= key[1]
    word ^= word >> 15
    word = word * 0x735A2D97 % 2**32
    return word ^ word >> 15


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_mask_is_that_of_plain_integers(p):
    key = mask_key(7, 5, 3, 1)
    kept = kept_elements((4, 9, 11), p=p, key=key, device=CPU)
    plain = [plain_hash(index, key) >= round(p * 2**32) for index in range(4 * 9 * 11)]
    assert kept.flatten().tolist() == plain


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_masks_keep_their_share_and_are_independent_of_each_other(p):
    draws = itertools.product((0, 1), (0, 1), (0, 1), (0, 1))  # seed, step, number, layer
    masks = [
        kept_elements((32, 40, 40), p=p, key=mask_key(*draw), device=CPU).flatten().double().numpy()
        for draw in draws
    ]
    size = masks[0].size
    deviation = np.sqrt(p * (1 - p) / size)
    assert all(abs(mask.mean() - (1 - p)) < 5 * deviation for mask in masks)
    pairs = np.corrcoef(masks)[np.triu_indices(len(masks), 1)]
    assert np.abs(pairs).max() < 5 / np.sqrt(size)
    shifts = [np.corrcoef(masks[0][:-by], masks[0][by:])[0, 1] for by in (1, 2, 40, 1600)]
    assert np.abs(shifts).max() < 5 / np.sqrt(size)


def outputs(numbers, x):
    """Return what a network in training gives for patches of these numbers, in this order."""
    torch.manual_seed(0)
    model = UNet(NETWORK).train()
    key_dropout(model, seed=1, step=4, numbers=numbers)
    return model(x).detach()


def test_a_patch_has_one_mask_in_any_batch_and_at_any_position():
    torch.manual_seed(1)
    x = torch.randn(3, 1, *NETWORK.input_shape((8, 8)))
    whole = outputs([4, 5, 6], x)
    alone = torch.cat([outputs([number], x[[at]]) for at, number in enumerate((4, 5, 6))])
    torch.testing.assert_close(alone, whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(outputs([6, 4], x[[2, 0]]), whole[[2, 0]], rtol=0, atol=1e-6)
    assert float((outputs([5, 4, 6], x) - whole).abs().max()) > 1e-3, "the masks are all alike"


def test_dropout_scales_what_it_keeps_and_changes_nothing_in_inference():
    layer = PatchDropout(0.2)
    layer.keys = [mask_key(0, 0, 0, 0)]
    x = torch.rand(1, 3, 16, 16) + 1
    kept = kept_elements(x.shape[1:], p=0.2, key=layer.keys[0], device=CPU)
    torch.testing.assert_close(layer(x), x * kept / 0.8)
    assert layer.eval()(x) is x
    assert not layer.state_dict()


def test_dropout_without_keys_draws_from_torch_s_generator():
    layer = PatchDropout(0.5)
    x = torch.ones(1, 64, 64)
    torch.manual_seed(3)
    expected = torch.nn.functional.dropout(x, 0.5)
    torch.manual_seed(3)
    assert torch.equal(layer(x), expected)


def test_a_batch_of_another_size_than_its_keys_is_refused():
    layer = PatchDropout(0.5)
    layer.keys = [mask_key(0, 0, number, 0) for number in range(2)]
    with pytest.raises(ValueError, match="2 dropout keys: expected one per patch, 3"):
        layer(torch.ones(3, 1, 4, 4))
