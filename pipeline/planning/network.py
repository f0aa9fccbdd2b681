"""What planning needs to know of a network; every Predictor states it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Protocol, runtime_checkable


class Network(Protocol):
    """The part of a Predictor that planning needs."""

    @property
    def halo(self) -> tuple[int, int, int]:
        """Context per side in voxels."""

    @property
    def divisor(self) -> tuple[int, int, int]:
        """Tiles start at multiples of this."""

    def input_shape(self, output_shape: Sequence[int]) -> tuple[int, int, int]:
        """Return the smallest valid input that covers this output."""

    def flops(self, output_shape: Sequence[int]) -> int:
        """Return the operations of one tile."""

    def memory_bytes(self, output_shape: Sequence[int]) -> int:
        """Return the peak memory of one tile."""


@runtime_checkable
class StatesSweepMemory(Protocol):
    """The part of a network that can be swept that planning needs."""

    def sweep_memory_bytes(self, output_shape: Sequence[int]) -> int | None:
        """Return the peak memory of a swept tile, or None if the network cannot be swept."""


def sweep_memory_bytes(network: object, output_shape: Sequence[int]) -> int | None:
    """Return the memory of a swept tile of a network, or None if it cannot be swept."""
    if not isinstance(network, StatesSweepMemory):
        return None
    return network.sweep_memory_bytes(output_shape)


def can_sweep(network: Network) -> bool:
    """Return whether a network can be swept."""
    return sweep_memory_bytes(network, network.divisor) is not None


class Remembered:
    """A network that computes each figure of a shape once; plans ask for the same ones often."""

    def __init__(self, network: Network) -> None:
        self.halo, self.divisor = network.halo, network.divisor
        self.takes_raw_planes = takes_raw_planes(network)
        self._input_shape = cache(network.input_shape)
        self._flops = cache(network.flops)
        self._memory_bytes = cache(network.memory_bytes)
        self._sweep_memory_bytes = cache(partial(sweep_memory_bytes, network))

    def input_shape(self, output_shape: Sequence[int]) -> tuple[int, int, int]:
        """Return the smallest valid input that covers this output."""
        return self._input_shape(tuple(output_shape))

    def flops(self, output_shape: Sequence[int]) -> int:
        """Return the operations of one tile."""
        return self._flops(tuple(output_shape))

    def memory_bytes(self, output_shape: Sequence[int]) -> int:
        """Return the peak memory of one tile."""
        return self._memory_bytes(tuple(output_shape))

    def sweep_memory_bytes(self, output_shape: Sequence[int]) -> int | None:
        """Return the peak memory of a swept tile, or None if the network cannot be swept."""
        return self._sweep_memory_bytes(tuple(output_shape))


@runtime_checkable
class TakesRawPlanes(Protocol):
    """The part of a network that computes stored outputs on its device that planning needs."""

    @property
    def takes_raw_planes(self) -> bool:
        """Whether tiles go to the device raw, and come back as they are stored."""


def takes_raw_planes(network: object) -> bool:
    """Return whether no float32 tile of this network exists outside its own memory."""
    return isinstance(network, TakesRawPlanes) and network.takes_raw_planes
