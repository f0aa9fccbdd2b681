"""A padded ("same") network as a predictor. Most published networks are of this kind.

Past a tile's edge such a network sees zeros (or another padding), so scores near the edge differ
from those of the whole volume. So the tile is read with a halo, and the halo's scores are cropped::

    |hhhhhh|cccccccccccc|hhhhhh|     the network returns a score for every input voxel: those of
    ^ a multiple of the divisor      the core c are kept, those of the halo h are discarded
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
from ..base.network_outputs import CLASSES, NetworkOutputs
from ..base.text import shape_text

ZYX: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class SamePadded:
    """A padded network, 2-D or 3-D, as ``pipeline.Predictor``. See ``docs/your-own-model.md``.

    Raises ConfigError unless context and divisor both have two axes, or both three.
    """

    network: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    """From images (n, channels, y, x), or volumes (n, channels, z, y, x), to probabilities
    (n, classes, …) of the same size. It is pickled and sent to the workers: use a function of a
    module, or a small object that loads its weights on the first call. It raises MemoryError if
    memory runs out."""
    digest: str
    """Identifies the weights, e.g. the SHA-256 of their file."""
    in_channels: int
    class_names: tuple[str, ...]
    context: tuple[int, ...]
    """Half the receptive field, rounded up, as (y, x) or (z, y, x) voxels. ``check_predictor``
    finds values that are too small."""
    own_divisor: tuple[int, ...]
    """Product of the pooling factors, (y, x) or (z, y, x)."""
    flops_per_voxel: float
    """Operations per voxel of the input; the planner compares tiles by it."""
    bytes_per_voxel: float
    """Peak memory per voxel of the input, without the weights. If it is too low, tiles that do not
    fit are halved; if it is too high, tiles are smaller than necessary."""
    normalisation: Mapping[str, Any] | None = None
    outputs: NetworkOutputs = CLASSES
    """What the channels are, with offsets along z, y and x; ``class_names`` then names channels."""
    tile_dependent_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.context) != len(self.own_divisor) or len(self.context) not in (2, 3):
            raise ConfigError(
                f"context {self.context} and divisor {self.own_divisor}: expected both as (y, x) "
                "for a 2-D network, or both as (z, y, x)"
            )
        if min(self.context) < 0 or min(self.own_divisor) < 1:
            raise ConfigError(
                f"context {self.context} or divisor {self.own_divisor} is too small: expected a "
                "context of at least 0 and a divisor of at least 1"
            )

    @property
    def halo(self) -> ZYX:
        """The context rounded up to divisors, so that reads start on the pooling grid."""
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
        """Return the output rounded up to divisors, plus the halo on both sides."""
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
        """Return itself: nothing is ``auto``."""
        return self

    def settings(self) -> Mapping[str, Any]:
        """Return no settings: all that changes the scores belongs in the digest."""
        return {}

    def __call__(self, x_nczyx: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities (n, classes, z, y, x) without the halo.

        Raises ConfigError if the network's output size differs from its input size.
        """
        n, channels, z, y, x = x_nczyx.shape
        flat = len(self.context) == 2
        images = (
            np.ascontiguousarray(np.moveaxis(x_nczyx, 2, 1)).reshape(n * z, channels, y, x)
            if flat
            else x_nczyx
        )
        scores = self.network(images)
        expected = (len(images), len(self.class_names), *images.shape[2:])
        if scores.shape != expected:
            raise ConfigError(
                f"the network returned {shape_text(scores.shape)} for {shape_text(images.shape)}: "
                f"expected {shape_text(expected)} from a padded network of "
                f"{len(self.class_names)} classes"
            )
        if flat:
            scores = np.moveaxis(scores.reshape(n, z, *scores.shape[1:]), 1, 2)
        inside = tuple(slice(h, s - h) for h, s in zip(self.halo, scores.shape[2:], strict=True))
        return np.asarray(scores[(slice(None), slice(None), *inside)], np.float32)
