"""The layers of a sweep: each keeps the planes that its next output needs again.

Planes are (1, channels, planes, *rest). A step takes them in two calls, so that their caller can
drop what went in before the layer computes: ``gather`` returns the planes that the layer reads,
``compute`` the planes that these give, or None where they are too few.
"""

from __future__ import annotations

import sys
from typing import Protocol

from torch import Tensor, nn

from .planes import KeptPlanes
from .skip import SkipQueue


class Step(Protocol):
    """One layer of the network, in the order of ``network.cost.layers``."""

    most_planes: int = sys.maxsize
    """The most planes that go in at once."""

    def gather(self, x: Tensor) -> Tensor:
        """Return the planes that the layer reads: those that it kept, and new ones."""

    def compute(self, x: Tensor) -> Tensor | None:
        """Return the planes that gathered ones give, or None; keep those that are needed again."""


class PlaneByPlane(Step):
    """A layer whose output planes depend on one input plane: an up-convolution, or the head."""

    def __init__(self, layer: nn.Module, *, most_planes: int = sys.maxsize) -> None:
        self._layer = layer
        self.most_planes = most_planes

    def gather(self, x: Tensor) -> Tensor:
        """Return the planes as they are."""
        return x

    def compute(self, x: Tensor) -> Tensor | None:
        """Return one output plane per input plane, or as many as the layer's stride."""
        y: Tensor = self._layer(x)
        return y


class SweptConvolution(Step):
    """A convolution and what follows it (norm, ReLU); keeps the last k - 1 planes of its input."""

    def __init__(self, layers: list[nn.Module], kept: KeptPlanes) -> None:
        self._layers = layers
        self._kept = kept

    def gather(self, x: Tensor) -> Tensor:
        """Return the planes kept and the new ones in one tensor."""
        return self._kept.gather(x)

    def room_for(self, planes: int) -> tuple[Tensor, Tensor]:
        """Return the planes kept with room for more, and a view of this room."""
        return self._kept.with_room_for(planes)

    def compute(self, x: Tensor) -> Tensor | None:
        """Return the activations, or None for fewer planes than the kernel has."""
        self._kept.keep(x, planes=min(self._kept.most, x.shape[2]))
        if x.shape[2] <= self._kept.most:
            return None
        for layer in self._layers:
            x = layer(x)
        return x


class SweptPool(Step):
    """A pooling layer; keeps the planes that do not fill a window yet, and feeds the skip."""

    def __init__(self, layer: nn.Module, skip: SkipQueue, kept: KeptPlanes, *, factor: int) -> None:
        self._layer = layer
        self._skip = skip
        self._kept = kept
        self._factor = factor

    def gather(self, x: Tensor) -> Tensor:
        """Return the planes kept and the new ones; copy the new ones to the skip."""
        self._skip.put(x)
        return self._kept.gather(x)

    def compute(self, x: Tensor) -> Tensor | None:
        """Return the pooled planes, or None if no window is full."""
        whole = x.shape[2] // self._factor * self._factor
        self._kept.keep(x, planes=x.shape[2] - whole)
        if not whole:
            return None
        y: Tensor = self._layer(x[:, :, :whole])
        return y


class SweptJoin(Step):
    """Puts the planes of the skip beside those that came up, as the next convolution reads them."""

    def __init__(self, skip: SkipQueue, convolution: SweptConvolution) -> None:
        self._skip = skip
        self._convolution = convolution

    def gather(self, x: Tensor) -> Tensor:
        """Return skip and ``x``, channel by channel, behind what the convolution kept."""
        channels = x.shape[1]
        joined, new = self._convolution.room_for(x.shape[2])
        self._skip.move_to(new[:, :channels])
        new[:, channels:] = x
        return joined

    def compute(self, x: Tensor) -> Tensor | None:
        """Return the planes as they are."""
        return x
