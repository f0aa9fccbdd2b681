"""Test-time augmentation: every tile is predicted in several orientations, and these are averaged.

The paper averages "over 7 rotated versions of the input data" (Ronneberger et al. 2015, section 4)
and does not say which. Here they are those that map voxels onto voxels: the four quarter turns in
the y x plane (``rotations``), and these with mirrors (``full``: 8 of a 2-D network, 16 of a 3-D
one, which z is mirrored for too). Any other angle would interpolate grey values and scores, and
turn the pooling grid between the voxels, so that tiled would no longer equal whole.

Mirrored, a network pools from the other end of the tile::

    |hhhh|cccccccccccc..|hhhh|     a tile as it is read: h halo, c core, . what a valid size adds
    ^ its grid starts here: at a multiple of the divisor, less one halo
                             ^ mirrored, it starts here

Both starts lie on one grid for all tiles, and for the whole volume, as long as the sizes of all
inputs differ by multiples of the divisor. So it is the whole valid output that is mirrored, not the
core, and outputs are asked for in whole multiples of the divisor.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from ..base.choices import Tta
from ..base.errors import ConfigError
from ..base.geometry import round_up
from ..base.text import shape_text
from .protocol import Predictor

ZYX: TypeAlias = tuple[int, int, int]

_Z, _X, _PLANE = 2, 4, (3, 4)
"""Axes of (n, c, z, y, x)."""


def with_tta(predictor: Predictor, tta: Tta) -> Predictor:
    """Return a predictor that averages over orientations of its tiles; itself for ``none``.

    tta: ``none``, ``rotations`` (4 passes) or ``full`` (8 passes, 16 of a 3-D network). Raises
    ConfigError for a network that is not alike in y and x: its tiles cannot be turned.
    """
    if tta not in get_args(Tta):
        raise ConfigError(f"tta {tta!r} is unknown: choose {', '.join(get_args(Tta))}")
    if isinstance(predictor, TtaPredictor):
        raise ConfigError(f"the predictor averages over {predictor.tta} already: wrap it once")
    return predictor if tta == "none" else TtaPredictor(predictor, tta)


@dataclass(frozen=True, slots=True)
class Orientation:
    """Mirrored in z and x, then turned by quarter turns from y towards x."""

    mirrored_z: bool
    mirrored_x: bool
    turns: int

    def of(self, x_nczyx: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the array in this orientation."""
        return np.rot90(np.flip(x_nczyx, self._mirrored_axes), self.turns, axes=_PLANE)

    def undone(self, turned_nczyx: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the array of which this is the orientation."""
        return np.flip(np.rot90(turned_nczyx, -self.turns, axes=_PLANE), self._mirrored_axes)

    @property
    def _mirrored_axes(self) -> tuple[int, ...]:
        return (_Z,) * self.mirrored_z + (_X,) * self.mirrored_x


@dataclass(frozen=True, slots=True)
class TtaPredictor:
    """A predictor around another one; see the module. Made by :func:`with_tta`."""

    predictor: Predictor
    tta: Literal["rotations", "full"]

    def __post_init__(self) -> None:
        _check_alike(self.predictor, self.tta)
        _check_congruent(self.predictor, self.tta)

    @property
    def orientations(self) -> tuple[Orientation, ...]:
        """All orientations, the tile as it is first. A 2-D network's planes have no z to mirror."""
        deep = self.predictor.halo[0] > 0 or self.predictor.divisor[0] > 1
        full = self.tta == "full"
        mirrored_z = (False, True) if full and deep else (False,)
        mirrored_x = (False, True) if full else (False,)
        return tuple(
            itertools.starmap(Orientation, itertools.product(mirrored_z, mirrored_x, range(4)))
        )

    @property
    def digest(self) -> str:
        """That of the weights; :meth:`settings` states the augmentation."""
        return self.predictor.digest

    @property
    def in_channels(self) -> int:
        """Channels of the volume that go in at once."""
        return self.predictor.in_channels

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per class, in the order of the scores; class 0 is background."""
        return self.predictor.class_names

    @property
    def halo(self) -> ZYX:
        """Context per side in voxels."""
        return self.predictor.halo

    @property
    def divisor(self) -> ZYX:
        """Product of the pooling factors: tiles must start at multiples of it."""
        return self.predictor.divisor

    @property
    def normalisation(self) -> Mapping[str, Any] | None:
        """The record of grey values that the weights were trained with, if they say so."""
        return self.predictor.normalisation

    @property
    def tile_dependent_layers(self) -> tuple[str, ...]:
        """Layers that look at statistics of the whole tile."""
        return self.predictor.tile_dependent_layers

    def input_shape(self, output_shape: Sequence[int]) -> ZYX:
        """Return the input for an output of whole multiples of the divisor, as the module says."""
        return self.predictor.input_shape(self._whole(output_shape))

    def flops(self, output_shape: Sequence[int]) -> int:
        """Return the floating-point operations of one tile, all its orientations together."""
        whole = self._whole(output_shape)
        both = self.predictor.flops(whole) + self.predictor.flops(_turned(whole))
        return len(self.orientations) * both // 2

    def memory_bytes(self, output_shape: Sequence[int]) -> int:
        """Return the network's memory, and a turned input and the sum of scores in float32."""
        whole = self._whole(output_shape)
        need = max(self.predictor.memory_bytes(shape) for shape in (whole, _turned(whole)))
        size = self.predictor.input_shape(whole)
        turned = self.in_channels * math.prod(size)
        return need + 4 * (turned + len(self.class_names) * math.prod(_output(size, self.halo)))

    def settled(self) -> TtaPredictor:
        """Return the same with nothing left to ``auto``."""
        return replace(self, predictor=self.predictor.settled())

    def settings(self) -> Mapping[str, Any]:
        """Return what else changes the scores: the network's own settings, and ``tta``."""
        return {**self.predictor.settings(), "tta": self.tta}

    def __call__(self, x_nczyx: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean probabilities (n, classes, z, y, x) over all orientations.

        Raises ConfigError where the scores are not one halo smaller than their input on every
        side: mirrored, they would lie elsewhere.
        """
        expected = _output(x_nczyx.shape[2:], self.halo)
        total = np.zeros((len(x_nczyx), len(self.class_names), *expected), np.float32)
        for orientation in self.orientations:
            scores = orientation.undone(
                self.predictor(np.ascontiguousarray(orientation.of(x_nczyx)))
            )
            if scores.shape != total.shape:
                raise ConfigError(
                    f"the network made scores of {shape_text(scores.shape[2:])} from "
                    f"{shape_text(x_nczyx.shape[2:])}, where halo {shape_text(self.halo)} leaves "
                    f"{shape_text(expected)}: its tiles cannot be mirrored; take --tta none"
                )
            total += scores
        total /= len(self.orientations)
        return total

    def _whole(self, output_shape: Sequence[int]) -> ZYX:
        z, y, x = (round_up(n, d) for n, d in zip(output_shape, self.divisor, strict=True))
        return z, y, x


def _turned(shape_zyx: Sequence[int]) -> ZYX:
    z, y, x = shape_zyx
    return z, x, y


def _output(input_zyx: Sequence[int], halo: ZYX) -> ZYX:
    z, y, x = (n - 2 * h for n, h in zip(input_zyx, halo, strict=True))
    return z, y, x


def _check_alike(predictor: Predictor, tta: Tta) -> None:
    """Raise ConfigError unless a turned tile is a tile too."""
    halo, divisor = predictor.halo, predictor.divisor
    alike = halo == _turned(halo) and divisor == _turned(divisor)
    if not alike or any(
        predictor.input_shape(_turned(shape)) != _turned(predictor.input_shape(shape))
        for shape in _outputs(divisor)
    ):
        raise ConfigError(
            f"tta {tta} turns tiles, and this network is not alike in y and x (halo "
            f"{shape_text(halo)}, divisor {shape_text(divisor)}, z y x): take --tta none, or a "
            "network with the same kernels and poolings in y and x"
        )


def _check_congruent(predictor: Predictor, tta: Tta) -> None:
    """Raise ConfigError unless all inputs end on one grid."""
    rests = {
        tuple(n % d for n, d in zip(predictor.input_shape(shape), predictor.divisor, strict=True))
        for shape in _outputs(predictor.divisor)
    }
    if len(rests) > 1:
        raise ConfigError(
            f"tta {tta} mirrors tiles, and this network's inputs differ by other than multiples "
            f"of its divisor {shape_text(predictor.divisor)}: mirrored tiles would pool on "
            "different grids; take --tta none"
        )


def _outputs(divisor: ZYX) -> list[ZYX]:
    """Return some outputs of whole multiples of the divisor, no two alike in their sizes."""
    z, y, x = divisor
    return [(a * z, b * y, c * x) for a, b, c in ((1, 1, 2), (2, 3, 1), (3, 2, 5), (1, 4, 3))]
