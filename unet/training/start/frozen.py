"""Layers that a training leaves as the weights that it starts from have them, bit for bit."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # the base of all batch norms

from ...network.model import UNet
from ...recipe.training_config import Freeze


def frozen_layers(model: UNet, freeze: Freeze) -> list[nn.Module]:
    """Return the modules that keep their tensors. ``contracting`` includes the bottom level."""
    return [model.contracting] if freeze == "contracting" else []


def freeze_layers(model: UNet, freeze: Freeze) -> None:
    """Exclude the parameters of frozen layers from gradients, before there is an optimiser."""
    for layers in frozen_layers(model, freeze):
        layers.requires_grad_(False)


def keep_statistics(model: UNet, freeze: Freeze) -> None:
    """Put batch norms of frozen layers into evaluation mode; called after ``model.train()``.

    Their dropout stays: it acts on what the expanding path learns from.
    """
    for layers in frozen_layers(model, freeze):
        for module in layers.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
