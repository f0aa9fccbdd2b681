"""The layers of a sweep: each keeps the planes that its next output needs again.

Planes are (1, channels, planes, *rest). A step takes them in two calls, so that their caller can
drop what went in before the layer computes: ``gather`` returns the planes that the layer reads,
``compute`` the planes that these give, or None where they are too few.
"""

from __future__ import annotations

import sys
from typing import Protocol

import torch
from torch import Tensor, nn

from .planes import Workspace
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
    """A convolution and what follows it (norm, ReLU); keeps the last k - 1 planes of its input.

    history: room for these planes. workspace: where the planes that it reads are put together.
    """

    def __init__(self, layers: list[nn.Module], *, history: Tensor, workspace: Workspace) -> None:
        self._layers = layers
        self._needed = history.shape[2]
        self._history = history
        self._kept = 0
        self._workspace = workspace

    def gather(self, x: Tensor) -> Tensor:
        """Return the planes kept and the new ones in one tensor."""
        if not self._kept:
            return x
        gathered, new = self.room_for(x.shape[2])
        new[...] = x
        return gathered

    def room_for(self, planes: int) -> tuple[Tensor, Tensor]:
        """Return a tensor with the planes kept and room for more, and a view of this room.

        The planes kept move into it: what :meth:`gather` would return once the room is filled.
        """
        kept, self._kept = self._kept, 0
        channels, rest = self._history.shape[1], tuple(self._history.shape[3:])
        gathered = self._workspace.planes(channels, kept + planes, rest)
        gathered[:, :, :kept] = self._history[:, :, :kept]
        return gathered, gathered[:, :, kept:]

    def compute(self, x: Tensor) -> Tensor | None:
        """Return the activations, or None for fewer planes than the kernel has."""
        self._kept = min(self._needed, x.shape[2])
        self._history[:, :, : self._kept] = x[:, :, x.shape[2] - self._kept :]
        if x.shape[2] <= self._needed:
            return None
        for layer in self._layers:
            x = layer(x)
        return x


class SweptPool(Step):
    """A pooling layer; keeps the planes that do not fill a window yet, and feeds the skip."""

    def __init__(self, layer: nn.Module, skip: SkipQueue, *, factor: int) -> None:
        self._layer = layer
        self._skip = skip
        self._factor = factor
        self._kept: Tensor | None = None

    def gather(self, x: Tensor) -> Tensor:
        """Return the planes kept and the new ones; copy the new ones to the skip."""
        self._skip.put(x)
        if self._kept is not None:
            x = torch.cat([self._kept, x], dim=2)
            self._kept = None
        return x

    def compute(self, x: Tensor) -> Tensor | None:
        """Return the pooled planes, or None if no window is full."""
        whole = x.shape[2] // self._factor * self._factor
        if whole < x.shape[2]:
            self._kept = x[:, :, whole:].clone()
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
