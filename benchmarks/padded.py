"""The same network with padded convolutions, as in tools without valid convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from unet import UNet, UNetConfig


def pad(model: Any) -> None:
    """Pad every convolution so that its output has the size of its input."""
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d):
            module.padding = tuple(n // 2 for n in module.kernel_size)


def forward(model: Any, x: torch.Tensor) -> torch.Tensor:
    """Return the logits of a padded network; nothing is cropped."""
    skips = []
    for level, convolutions in enumerate(model.contracting):
        x = convolutions(x)
        if level < len(model.pools):
            skips.append(x)
            x = model.pools[level](x)
    for up, convolutions in zip(model.ups, model.expanding, strict=True):
        x = convolutions(torch.cat([skips.pop(), up(x)], dim=1))
    logits: torch.Tensor = model.head(x)
    return logits


def flops(config: UNetConfig, window: Sequence[int]) -> int:
    """Return the operations of one window, as torch counts them."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = UNet(config)
        pad(model)
        forward(model, torch.empty(1, config.in_channels, *window))
    return int(counter.get_total_flops())
