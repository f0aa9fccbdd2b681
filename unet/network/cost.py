"""The costs of a network: tensors, parameters and FLOPs, counted layer by layer.

All are computed from one list of layers, in the order of ``model.UNet.forward``.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import mul
from typing import Literal, Protocol, TypeAlias

Shape: TypeAlias = tuple[int, ...]


class Architecture(Hashable, Protocol):
    """The settings that the costs depend on; ``config.UNetConfig`` is one."""

    @property
    def dims(self) -> int:
        """Spatial axes of the network, 2 or 3."""

    @property
    def in_channels(self) -> int:
        """Channels of the input."""

    @property
    def classes(self) -> int:
        """Channels of the scores."""

    @property
    def base_channels(self) -> int:
        """Channels of the finest level."""

    @property
    def levels(self) -> int:
        """Resolutions, the finest one included."""

    @property
    def norm(self) -> str:
        """Kind of normalisation layer; ``none`` has no parameters."""

    @property
    def channels(self) -> Shape:
        """Channels per level."""

    @property
    def level_kernels(self) -> tuple[Shape, ...]:
        """Kernel of the convolutions per level."""

    @property
    def level_pooling(self) -> tuple[Shape, ...]:
        """Pooling factors between neighbouring levels."""

    def input_shape(self, output_shape: Sequence[int]) -> Shape:
        """Return the smallest valid input whose output covers ``output_shape``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer that has parameters or changes a shape. ``out_shape`` is spatial."""

    kind: Literal["convolution_1", "convolution_2", "pool", "up", "join", "head"]
    name: str
    in_channels: int
    out_channels: int
    kernel: Shape
    out_shape: Shape

    @property
    def weights(self) -> int:
        """Elements of the layer's weight tensor."""
        return self.in_channels * self.out_channels * math.prod(self.kernel)


def layers(config: Architecture, input_shape: Sequence[int]) -> Iterator[Layer]:
    """Yield the layers of one forward pass over an image of ``input_shape`` (spatial, valid)."""
    shape, before = tuple(input_shape), config.in_channels
    for level, channels in enumerate(config.channels):
        for layer in _block(config, f"contracting.{level}", level, before, shape):
            shape = layer.out_shape
            yield layer
        before = channels
        if level < config.levels - 1:
            factors = config.level_pooling[level]
            shape = tuple(size // factor for size, factor in zip(shape, factors, strict=True))
            yield Layer(
                kind="pool",
                name=f"pools.{level}",
                in_channels=channels,
                out_channels=channels,
                kernel=factors,
                out_shape=shape,
            )
    for step, level in enumerate(reversed(range(config.levels - 1))):
        channels, factors = config.channels[level], config.level_pooling[level]
        shape = tuple(size * factor for size, factor in zip(shape, factors, strict=True))
        yield Layer(
            kind="up",
            name=f"ups.{step}",
            in_channels=2 * channels,
            out_channels=channels,
            kernel=factors,
            out_shape=shape,
        )
        yield Layer(
            kind="join",
            name=f"join.{step}",
            in_channels=channels,
            out_channels=2 * channels,
            kernel=(1,) * config.dims,
            out_shape=shape,
        )
        for layer in _block(config, f"expanding.{step}", level, 2 * channels, shape):
            shape = layer.out_shape
            yield layer
    yield Layer(
        kind="head",
        name="head",
        in_channels=config.base_channels,
        out_channels=config.classes,
        kernel=(1,) * config.dims,
        out_shape=shape,
    )


def _block(
    config: Architecture, name: str, level: int, in_channels: int, shape: Shape
) -> Iterator[Layer]:
    """Yield the two unpadded convolutions of a level."""
    kernel, channels = config.level_kernels[level], config.channels[level]
    for kind in ("convolution_1", "convolution_2"):
        shape = tuple(size - width + 1 for size, width in zip(shape, kernel, strict=True))
        yield Layer(
            kind=kind,
            name=f"{name}.{kind}",
            in_channels=in_channels,
            out_channels=channels,
            kernel=kernel,
            out_shape=shape,
        )
        in_channels = channels


def tensor_shapes(config: Architecture) -> dict[str, Shape]:
    """Return name and shape of every tensor of ``UNet(config).state_dict()``.

    A weights file is checked against its config with it, without torch.
    """
    shapes: dict[str, Shape] = {}
    for layer in smallest_layers(config):
        if layer.kind in ("pool", "join"):
            continue
        channels = (layer.out_channels, layer.in_channels)
        if layer.kind == "up":  # torch stores the input channels first
            channels = (layer.in_channels, layer.out_channels)
        shapes[f"{layer.name}.weight"] = (*channels, *layer.kernel)
        shapes[f"{layer.name}.bias"] = (layer.out_channels,)
        if layer.kind.startswith("convolution") and config.norm != "none":
            norm = layer.name.replace("convolution", "norm")
            trained, tracked = ("weight", "bias"), ("running_mean", "running_var")
            for tensor in trained + (tracked if config.norm == "batch" else ()):
                shapes[f"{norm}.{tensor}"] = (layer.out_channels,)
            if config.norm == "batch":
                shapes[f"{norm}.num_batches_tracked"] = ()
    return shapes


def parameters(config: Architecture) -> int:
    """Return the number of trained parameters."""
    return sum(
        math.prod(shape)
        for name, shape in tensor_shapes(config).items()
        if name.endswith((".weight", ".bias"))
    )


@lru_cache(maxsize=2**14)
def flops(config: Architecture, input_shape: Shape) -> int:
    """Return the operations of all (up-)convolutions for one image, two per multiply-add.

    Kept, because a plan compares thousands of tiles, most of them several times.
    """
    return sum(map(mul, _element_flops(config), layer_elements(config, input_shape)))


def layer_elements(config: Architecture, input_shape: Shape) -> tuple[int, ...]:
    """Return the elements of each layer's output, for one image, in the order of :func:`layers`.

    Each axis is counted on its own: thousands of tiles of a plan have few sizes per axis.
    """
    along = (_sizes_along(config, axis, size) for axis, size in enumerate(input_shape))
    channels = (layer.out_channels for layer in smallest_layers(config))
    return tuple(map(math.prod, zip(channels, *along, strict=True)))


@lru_cache(maxsize=64)
def smallest_layers(config: Architecture) -> tuple[Layer, ...]:
    """Return the layers over the smallest input."""
    return tuple(layers(config, config.input_shape((1,) * config.dims)))


@lru_cache(maxsize=2**12)
def _sizes_along(config: Architecture, axis: int, size: int) -> tuple[int, ...]:
    """Return the size of each layer's output along an axis, for this size of the input."""
    shape = list(config.input_shape((1,) * config.dims))
    shape[axis] = size
    return tuple(layer.out_shape[axis] for layer in layers(config, shape))


@lru_cache(maxsize=64)
def _element_flops(config: Architecture) -> tuple[int, ...]:
    """Return the operations of each layer for one element of its output."""
    # In an up-convolution kernel = stride: each output voxel depends on one tap of the kernel.
    taps = (
        1 if layer.kind == "up" else math.prod(layer.kernel) for layer in smallest_layers(config)
    )
    return tuple(
        0 if layer.kind in ("pool", "join") else 2 * layer.in_channels * each
        for layer, each in zip(smallest_layers(config), taps, strict=True)
    )
