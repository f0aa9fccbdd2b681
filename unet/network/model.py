"""The U-Net, in 2-D and 3-D.

Ronneberger, Fischer and Brox (2015), "U-Net: Convolutional Networks for Biomedical Image
Segmentation"; Çiçek et al. (2016), "3D U-Net". Convolutions are unpadded, so that a score depends
on real (or mirrored) voxels only, and a tile has the same scores as the whole volume.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from pipeline.base.network_outputs import CLASSES, NetworkOutputs

from .config import UNetConfig
from .convolution_3d import Convolution3d, UpConvolution3d
from .dropout import PatchDropout

LayerOfDims: TypeAlias = dict[int, Callable[..., nn.Module]]

CONVOLUTION: LayerOfDims = {2: nn.Conv2d, 3: Convolution3d}
UP_CONVOLUTION: LayerOfDims = {2: nn.ConvTranspose2d, 3: UpConvolution3d}
MAX_POOL: LayerOfDims = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
BATCH_NORM: LayerOfDims = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORM: LayerOfDims = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


class UNet(nn.Module):
    """A contracting path, an expanding path, and skips that join them level by level.

    forward: (n, in_channels, *input) float -> logits (n, classes, *output), with ``output`` the
    config's ``output_shape(input)``. Raises ConfigError for an input that does not fit.
    outputs: what the channels are, hence how scores follow from logits; see predict/forward.py.
    """

    def __init__(self, config: UNetConfig, outputs: NetworkOutputs = CLASSES) -> None:
        super().__init__()
        outputs.check_network(channels=config.classes, dims=config.dims)
        self.config = config
        self.outputs = outputs
        dims, channels, bottom = config.dims, config.channels, config.levels - 1

        before = (config.in_channels, *channels)
        self.contracting = nn.ModuleList(
            block(config, level, before[level], dropout=_contracting_dropout(config, level))
            for level in range(config.levels)
        )
        self.pools = nn.ModuleList(MAX_POOL[dims](factors) for factors in config.level_pooling)
        self.ups = nn.ModuleList(
            UP_CONVOLUTION[dims](2 * channels[level], channels[level], factors, stride=factors)
            for level, factors in reversed(list(enumerate(config.level_pooling)))
        )
        self.expanding = nn.ModuleList(
            block(config, level, 2 * channels[level]) for level in reversed(range(bottom))
        )
        self.head = CONVOLUTION[dims](channels[0], config.classes, kernel_size=1)
        if not self.head.weight.is_meta:  # weights that are loaded replace it
            self.apply(he_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits; shapes in the comments are the paper's, 572² in and 388² out."""
        self.config.output_shape(x.shape[2:])  # raises if the poolings do not divide evenly
        skips: list[Tensor] = []
        for level, convolutions in enumerate(self.contracting):
            x = convolutions(x)  # 64×568² | 128×280² | 256×136² | 512×64² | 1024×28²
            if level < len(self.pools):
                skips.append(x)
                x = self.pools[level](x)  # 64×284² | 128×140² | 256×68² | 512×32²
        for up, convolutions in zip(self.ups, self.expanding, strict=True):
            x = up(x)  # 512×56² | 256×104² | 128×200² | 64×392²
            x = torch.cat([centre_crop(skips.pop(), x.shape[2:]), x], dim=1)  # 1024×56² | …
            x = convolutions(x)  # 512×52² | 256×100² | 128×196² | 64×388²
        logits: Tensor = self.head(x)  # 2×388²
        return logits


def block(
    config: UNetConfig, level: int, in_channels: int, *, dropout: float = 0.0
) -> nn.Sequential:
    """Return the two unpadded convolutions of a level, each with its norm (if any) and ReLU."""
    channels = config.channels[level]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, incoming in ((1, in_channels), (2, channels)):
        layers[f"convolution_{number}"] = CONVOLUTION[config.dims](
            incoming, channels, config.level_kernels[level]
        )
        if config.norm != "none":
            layers[f"norm_{number}"] = norm(config, channels)
        layers[f"relu_{number}"] = nn.ReLU(inplace=True)
    if dropout > 0:
        layers["dropout"] = PatchDropout(dropout)
    return nn.Sequential(layers)


def norm(config: UNetConfig, channels: int) -> nn.Module:
    """Return the layer between convolution and ReLU; groups are of equal size, at most eight."""
    if config.norm == "batch":
        return BATCH_NORM[config.dims](channels)
    if config.norm == "instance":
        return INSTANCE_NORM[config.dims](channels, affine=True)
    return nn.GroupNorm(math.gcd(8, channels), channels)


def centre_crop(skip: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the centre of ``skip`` (n, c, *larger) with the spatial ``shape``.

    Both sides lose the same: a skip exceeds its partner by twice the halo of the levels below,
    times the pooling. A view, unless gradients are computed: that of a view is contiguous, which
    slows each layer before it in channels-last networks (steps took 1.26 times as long).
    """
    if skip.requires_grad:
        more = [have - size for have, size in zip(skip.shape[2:], shape, strict=True)]
        sides = [part for both in reversed(more) for part in (-(both // 2), both // 2 - both)]
        return pad(skip, sides)
    for axis, size in enumerate(shape, start=2):
        skip = skip.narrow(axis, (skip.shape[axis] - size) // 2, size)
    return skip


def he_initialise(module: nn.Module) -> None:
    """Draw weights from a Gaussian of standard deviation sqrt(2 / N), biases 0 (paper, section 3).

    N is the number of incoming nodes of one neuron: channels × kernel voxels of a convolution. In
    an up-convolution, kernel = stride, so an output voxel depends on one tap: N is the channels.
    """
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        incoming = module.in_channels * math.prod(module.kernel_size)
    elif isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d):
        incoming = module.in_channels
    else:
        return
    nn.init.normal_(module.weight, std=math.sqrt(2 / incoming))
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _contracting_dropout(config: UNetConfig, level: int) -> float:
    """Dropout "at the end of the contracting path" (paper, section 3.1).

    The authors' release has it after the last two levels, before pooling and skip.
    """
    return config.dropout if level >= config.levels - 2 else 0.0
