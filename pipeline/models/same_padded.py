"""A padded ("same") network as a predictor: most networks that others trained are of this kind.

Where a tile ends such a network sees zeros (or a border of its own), so scores near a tile's ends
are not the whole volume's. The tile is therefore read wider than its core, and the rest cut off::

    |hhhhhh|cccccccccccc|hhhhhh|     the network gives as many scores as it took voxels: the core's
    ^ a multiple of the divisor      are right, those of the halo h are thrown away
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..base.errors import ConfigError
from ..base.geometry import round_up
from ..base.text import shape_text

ZYX: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class SamePadded:
    """A padded network, 2-D or 3-D, as ``pipeline.Predictor``. ``docs/your-own-model.md`` has one.

    Raises ConfigError where context and divisor are not both of two axes, or of three.
    """

    network: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    """From images (n, channels, y, x), or volumes (n, channels, z, y, x), to probabilities
    (n, classes, …) of the same size. It travels to the workers: a function of a module, or a small
    object that loads its weights where it is first called. Where memory runs out, it raises
    MemoryError."""
    digest: str
    """What identifies the weights, such as the SHA-256 of their file."""
    in_channels: int
    class_names: tuple[str, ...]
    context: tuple[int, ...]
    """How far any score looks to either side, (y, x) or (z, y, x) voxels: half the receptive field,
    rounded up. ``check_predictor`` tells where it is too small."""
    own_divisor: tuple[int, ...]
    """Product of the pooling factors, (y, x) or (z, y, x)."""
    flops_per_voxel: float
    """Operations per voxel of the input; tiles are weighed by it."""
    bytes_per_voxel: float
    """Peak memory per voxel of the input, weights left out. Where it is stated too low, tiles that
    do not fit are halved; where it is too high, tiles are smaller than they need be."""
    normalisation: Mapping[str, Any] | None = None
    tile_dependent_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.context) != len(self.own_divisor) or len(self.context) not in (2, 3):
            raise ConfigError(
                f"context {self.context} and divisor {self.own_divisor}: give both as (y, x) for a "
                "2-D network, or both as (z, y, x)"
            )
        if min(self.context) < 0 or min(self.own_divisor) < 1:
            raise ConfigError(
                f"context {self.context} is below 0 or divisor {self.own_divisor} below 1"
            )

    @property
    def halo(self) -> ZYX:
        """The context in whole divisors, so that what is read starts on the pooling grid."""
        planar = (0,) * (3 - len(self.context))
        z, y, x = (
            round_up(c, d) for c, d in zip((*planar, *self.context), self.divisor, strict=True)
        )
        return z, y, x

    @property
    def divisor(self) -> ZYX:
        """Product of the pooling factors; 1 in z for a 2-D network."""
        z, y, x = (1,) * (3 - len(self.own_divisor)) + self.own_divisor
        return z, y, x

    def input_shape(self, output_shape: Sequence[int]) -> ZYX:
        """Return the output in whole divisors, and the halo around it."""
        z, y, x = (
            round_up(n, d) + 2 * h
            for n, d, h in zip(output_shape, self.divisor, self.halo, strict=True)
        )
        return z, y, x

    def flops(self, output_shape: Sequence[int]) -> int:
        """Return the operations of one tile with at least this output."""
        return math.ceil(self.flops_per_voxel * math.prod(self.input_shape(output_shape)))

    def memory_bytes(self, output_shape: Sequence[int]) -> int:
        """Return the peak memory of one tile with at least this output."""
        return math.ceil(self.bytes_per_voxel * math.prod(self.input_shape(output_shape)))

    def settled(self) -> SamePadded:
        """Return itself: nothing is left to ``auto``."""
        return self

    def settings(self) -> Mapping[str, Any]:
        """Return nothing: what changes the scores belongs in the digest."""
        return {}

    def __call__(self, x_nczyx: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities (n, classes, z, y, x), the halo cut off.

        Raises ConfigError where the network's result is not of its input's size.
        """
        n, channels, z, y, x = x_nczyx.shape
        flat = len(self.context) == 2
        images = (
            np.ascontiguousarray(np.moveaxis(x_nczyx, 2, 1)).reshape(n * z, channels, y, x)
            if flat
            else x_nczyx
        )
        scores = self.network(images)
        wanted = (len(images), len(self.class_names), *images.shape[2:])
        if scores.shape != wanted:
            raise ConfigError(
                f"the network made {shape_text(scores.shape)} from {shape_text(images.shape)}: a "
                f"padded network of {len(self.class_names)} classes makes {shape_text(wanted)}"
            )
        if flat:
            scores = np.moveaxis(scores.reshape(n, z, *scores.shape[1:]), 1, 2)
        inside = tuple(slice(h, s - h) for h, s in zip(self.halo, scores.shape[2:], strict=True))
        return np.asarray(scores[(slice(None), slice(None), *inside)], np.float32)
