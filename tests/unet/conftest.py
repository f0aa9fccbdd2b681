"""Small networks whose scores vary, and files that hold them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from unet import UNet, UNetConfig, save_weights

SCALE = 2.5  # a freshly initialised U-Net is nearly flat, and would hide any seam

CONFIGS = {
    "2-D": UNetConfig(base_channels=4, levels=3, classes=3),
    "2-D two channels, kernel 5 on top": UNetConfig(
        base_channels=2, levels=2, in_channels=2, kernels=(5, 3)
    ),
    "2-D by 3, batch norm": UNetConfig(base_channels=4, levels=2, pooling=3, norm="batch"),
    "3-D": UNetConfig(dims=3, base_channels=2, levels=2),
    "3-D anisotropic": UNetConfig(
        dims=3,
        base_channels=2,
        levels=3,
        kernels=((1, 3, 3), 3, (3, 1, 3)),
        pooling=((1, 2, 2), (2, 2, 1)),
        norm="group",
    ),
    "one level": UNetConfig(base_channels=3, levels=1),
    "instance norm": UNetConfig(base_channels=3, levels=2, norm="instance"),
}


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys())
def config(request: pytest.FixtureRequest) -> UNetConfig:
    return request.param


@pytest.fixture
def network() -> Callable[..., UNet]:
    """Make a network whose scores vary over the tile."""

    def make(config: UNetConfig, *, scale: float = SCALE) -> UNet:
        torch.manual_seed(0)
        model = UNet(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(scale)
        return model

    return make


@pytest.fixture
def weights_file(tmp_path: Path, network: Callable[..., UNet]) -> Callable[..., Path]:
    """Write such a network to a file."""

    def write(config: UNetConfig, *, name: str = "w.safetensors", **options: object) -> Path:
        path = tmp_path / name
        save_weights(network(config), path, **options)  # type: ignore[arg-type]
        return path

    return write
