"""A column of a volume through the network, slab by slab: exactly the scores of the whole tile.

No activation is computed twice along the sweep, and memory does not depend on its length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pipeline.base.errors import ConfigError
from pipeline.base.geometry import Shape

from ...network.cost import Layer
from ...network.model import UNet
from .geometry import (
    column_layers,
    gathered_planes,
    planes_to_raise,
    skip_crops,
    waiting_limits,
)
from .planes import KeptPlanes, Workspace, planes_of
from .skip import SkipQueue
from .steps import PlaneByPlane, Step, SweptConvolution, SweptJoin, SweptPool


class ColumnSweep:
    """The state of one sweep of a model in inference mode.

    column: sides of the tile's input other than the sweep's. slab: the most planes that are pushed
    at once. Raises ConfigError for a network whose layers use statistics of the whole tile.
    """

    def __init__(self, model: UNet, column: Shape, *, slab: int) -> None:
        if model.config.tile_dependent_layers:
            raise ConfigError(
                f"the network has {', '.join(model.config.tile_dependent_layers)}, which needs the "
                "statistics of the whole tile: compute it in tiles"
            )
        build = _Build(model, column, slab)
        self._steps = tuple(build.steps())
        self._skips = build.skips

    def push(self, x: Tensor) -> Tensor | None:
        """Return the logits (1, classes, planes, *rest) that more input planes give, or None.

        x: the next planes (1, channels, planes, *rest) of the tile's input.
        """
        return self._pushed(x, 0)

    def _pushed(self, x: Tensor, first: int) -> Tensor | None:
        """Return what the steps from ``first`` on give; in parts for a step that takes fewer."""
        for place, step in enumerate(self._steps[first:], first):
            if x.shape[2] > step.most_planes:
                parts = (self._pushed(part, place) for part in x.split(step.most_planes, dim=2))
                given = [part for part in parts if part is not None]
                return torch.cat(given, dim=2) if given else None
            x = step.gather(x)
            y = step.compute(x)
            if y is None:
                return None
            x = y
            del y  # so that the next step's gather can drop it
        return x

    @property
    def waiting_planes(self) -> tuple[int, ...]:
        """Planes of the skip that wait on each level."""
        return tuple(skip.planes for skip in self._skips)


class _Build:
    """Makes the steps of a sweep, in the order of the forward pass, and all their room."""

    def __init__(self, model: UNet, column: Shape, slab: int) -> None:
        config = self._config = model.config
        self._model = model
        self._slab = slab
        self._like = next(model.parameters())
        self._layers = column_layers(config, column)
        rests = [column, *(layer.out_shape[1:] for layer in self._layers)]
        names = [layer.name for layer in self._layers]
        self._inputs = dict(zip(names, rests[:-1], strict=True))
        planes = gathered_planes(config, slab=slab)
        self._workspace = Workspace(
            self._like,
            max(
                layer.in_channels * planes[layer.name] * math.prod(self._inputs[layer.name])
                for layer in self._layers
                if layer.name in planes
            ),
        )
        self.skips = [self._skip(level) for level in range(config.levels - 1)]

    def steps(self) -> Iterator[Step]:
        """Yield the steps."""
        model, bottom = self._model, self._config.levels - 1
        for level, block in enumerate(model.contracting):
            yield from self._convolutions(block, f"contracting.{level}")
            if level < bottom:
                factor = self._config.level_pooling[level][0]
                kept = self._kept(self._layer(f"pools.{level}"), planes=factor - 1)
                yield SweptPool(model.pools[level], self.skips[level], kept, factor=factor)
        for step, (up, block) in enumerate(zip(model.ups, model.expanding, strict=True)):
            factor = self._config.level_pooling[bottom - 1 - step][0]
            yield PlaneByPlane(up, most_planes=planes_to_raise(self._slab, factor))
            convolutions = self._convolutions(block, f"expanding.{step}")
            yield SweptJoin(self.skips[bottom - 1 - step], convolutions[0])
            yield from convolutions
        yield PlaneByPlane(model.head)

    def _skip(self, level: int) -> SkipQueue:
        join = self._layer(f"join.{self._config.levels - 2 - level}")
        limit = waiting_limits(self._config, slab=self._slab)[level]
        ring = planes_of(self._like, join.in_channels, limit, join.out_shape[1:])
        return SkipQueue(skip_crops(self._config, level), ring)

    def _convolutions(self, block: nn.Module, name: str) -> list[SweptConvolution]:
        """Return the convolutions of a level's block, each with the norm and ReLU after it."""
        found: dict[str, list[nn.Module]] = {}
        for child, layer in block.named_children():
            if child.startswith("convolution"):
                found[child] = [layer]
            elif child != "dropout":  # it changes nothing in inference
                found[list(found)[-1]].append(layer)
        return [
            self._convolution(layers, self._layer(f"{name}.{child}"))
            for child, layers in found.items()
        ]

    def _convolution(self, modules: list[nn.Module], layer: Layer) -> SweptConvolution:
        return SweptConvolution(modules, self._kept(layer, planes=layer.kernel[0] - 1))

    def _kept(self, layer: Layer, *, planes: int) -> KeptPlanes:
        history = planes_of(self._like, layer.in_channels, planes, self._inputs[layer.name])
        return KeptPlanes(history, self._workspace)

    def _layer(self, name: str) -> Layer:
        return next(layer for layer in self._layers if layer.name == name)
