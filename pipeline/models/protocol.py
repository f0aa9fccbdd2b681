"""What the pipeline asks of a model: tiles in, scores out, and a statement of its own geometry.

Any model that can state these can be run. ``unet.UNetPredictor`` does; so can a class of yours. It
travels to the workers by pickle, so it should be small and load its weights where it lands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Predictor(Protocol):
    """A callable from tiles to scores. All shapes are (z, y, x), also of a 2-D network.

    A 2-D network states halo 0 and divisor 1 in z, and treats z as more images.
    """

    @property
    def digest(self) -> str:
        """What identifies the weights: it changes when the scores would."""

    @property
    def in_channels(self) -> int:
        """Channels of the volume that go in at once."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per class, in the order of the scores; class 0 is background."""

    @property
    def halo(self) -> tuple[int, int, int]:
        """Context per side in voxels, of a core that starts at a multiple of the divisor.

        A score elsewhere on the pooling grid may reach up to a divisor further to one side; the
        input that :meth:`input_shape` states holds that too. A padded ("same") network states a
        multiple of the divisor, takes output + 2 halo, and crops the halo itself:
        ``pipeline.SamePadded`` does so. ``pipeline.check_predictor`` proves what is stated.
        """

    @property
    def divisor(self) -> tuple[int, int, int]:
        """Product of the pooling factors: tiles must start at multiples of it."""

    @property
    def normalisation(self) -> Mapping[str, Any] | None:
        """The record of grey values that the weights were trained with, if they say so."""

    @property
    def tile_dependent_layers(self) -> tuple[str, ...]:
        """Layers that look at statistics of the whole tile; with any, tiled is not whole."""

    def input_shape(self, output_shape: Sequence[int]) -> tuple[int, int, int]:
        """Return the smallest valid input whose scores cover at least ``output_shape``.

        It starts one halo before the output; what it has beyond output + 2 halo lies at its end.
        """

    def flops(self, output_shape: Sequence[int]) -> int:
        """Return the floating-point operations of one tile with at least this output.

        Of its whole input, halo included: the planner weighs tiles by it.
        """

    def memory_bytes(self, output_shape: Sequence[int]) -> int:
        """Return the peak memory of one tile with at least this output, weights left out."""

    def settled(self) -> Predictor:
        """Return the same predictor with nothing left to ``auto``; called once, on a worker."""

    def settings(self) -> Mapping[str, Any]:
        """Return what else changes the scores (such as the precision); part of the job digest."""

    def __call__(self, x_nczyx: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities (n, classes, z, y, x) for normalised tiles (n, channels, z, y, x).

        The scores' first voxel lies one halo inside the input's first. Raises MemoryError where
        the tile does not fit the device; the caller then halves it.
        """
