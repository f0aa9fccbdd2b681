"""Biases that change nothing, and would differ from rank to rank all the same."""

from __future__ import annotations

from itertools import chain, pairwise

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...network.model import UNet

SUBTRACT_MEAN = _BatchNorm, nn.InstanceNorm2d, nn.InstanceNorm3d
"""Norms that subtract the mean of each channel, and with it the biases before them."""


def fix_idle_biases(model: UNet) -> None:
    """Exclude from the training the biases that such a norm removes.

    These are the biases of convolutions before a norm, and of up-convolutions: unpadded, the next
    convolution turns a constant into a constant. Their gradient is 0. Computed, it is a rounding
    error, which AdamW scales to steps as large as all others.
    """
    for block in chain(model.contracting, model.expanding):
        for layer, following in pairwise(block.children()):
            if isinstance(following, SUBTRACT_MEAN):
                _fix_bias(layer)
    for up, block in zip(model.ups, model.expanding, strict=True):
        if any(isinstance(layer, SUBTRACT_MEAN) for layer in block.children()):
            _fix_bias(up)


def _fix_bias(layer: nn.Module) -> None:
    if isinstance(layer.bias, nn.Parameter):
        layer.bias.requires_grad_(False)
