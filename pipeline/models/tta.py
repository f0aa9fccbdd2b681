"""Test-time augmentation: averages the scores of every tile over several orientations.

The paper averages "over 7 rotated versions of the input data" (Ronneberger et al. 2015, section 4)
without naming them. Here they are those that map voxels onto voxels: the four quarter turns in the
y x plane (``rotations``), and these with mirrors (``full``: 8 for a 2-D network, 16 for a 3-D one,
which is mirrored in z too). Any other angle would interpolate grey values and scores, and rotate
the pooling grid off the voxels, so that tiled scores would no longer equal whole ones.

In a mirrored tile, a network pools from the other end::

    |hhhh|cccccccccccc..|hhhh|     a tile as it is read: h halo, c core, . what a valid size adds
    ^ its grid starts here: at a multiple of the divisor, less one halo
                             ^ mirrored, it starts here

Both starts lie on one grid for all tiles, and for the whole volume, as long as the sizes of all
inputs differ by multiples of the divisor. So it is the whole valid output that is mirrored, not the
core, and requested outputs are multiples of the divisor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from ..base.choices import Tta
from ..base.errors import ConfigError
from ..base.geometry import round_up
from ..base.network_outputs import NetworkOutputs
from ..base.text import shape_text
from ..base.tile_request import (
    Orientation,
    StoredPlanes,
    TileRequest,
    View,
    divide_by_views,
)
from ..planning.network import sweep_memory_bytes, takes_raw_planes
from .protocol import (
    Predictor,
    ReadPlanes,
    ReadRaw,
    StatesTraining,
    StoresPlanes,
    Sweeps,
    UsesDevice,
    outputs_of,
)
from .tta_views import views_of

ZYX: TypeAlias = tuple[int, int, int]

_Z, _X, _PLANE = -3, -1, (-2, -1)
"""Axes of (…, z, y, x)."""


def with_tta(predictor: Predictor, tta: Tta) -> Predictor:
    """Return a predictor that averages over orientations of its tiles; itself for ``none``.

    tta: ``none``, ``rotations`` (4 passes) or ``full`` (8 passes, 16 of a 3-D network; fewer of
    affinities, see ``tta_views``). Raises ConfigError for a network that differs in y and x, whose
    tiles cannot be turned, and for one of affinities in directions that no turned tile has.
    """
    if tta not in get_args(Tta):
        raise ConfigError(f"tta {tta!r} is unknown: choose {', '.join(get_args(Tta))}")
    if isinstance(predictor, TtaPredictor):
        raise ConfigError(f"the predictor already averages over {predictor.tta}: wrap it once")
    return predictor if tta == "none" else TtaPredictor(predictor, tta)


@dataclass(frozen=True, slots=True)
class TtaPredictor:
    """A predictor around another one; see the module. Made by :func:`with_tta`."""

    predictor: Predictor
    tta: Literal["rotations", "full"]

    def __post_init__(self) -> None:
        _check_views(self.views, self.tta)
        _check_same_in_yx(self.predictor, self.tta)
        _check_one_grid(self.predictor, self.tta)

    @property
    def views(self) -> tuple[View, ...]:
        """All views, the unchanged tile first. A 2-D network has no z to mirror."""
        deep = self.predictor.halo[0] > 0 or self.predictor.divisor[0] > 1
        return views_of(self.outputs, self.tta, deep=deep)

    @property
    def digest(self) -> str:
        """Identifies the weights; :meth:`settings` states the augmentation."""
        return self.predictor.digest

    @property
    def in_channels(self) -> int:
        """Input channels."""
        return self.predictor.in_channels

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per channel of the scores; of classes, class 0 is background."""
        return self.predictor.class_names

    @property
    def outputs(self) -> NetworkOutputs:
        """What the channels of the scores are."""
        return outputs_of(self.predictor)

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
        """The normalisation record that the weights were trained with, if stated."""
        return self.predictor.normalisation

    @property
    def voxel_size_um(self) -> tuple[float | None, float | None, float | None] | None:
        """Voxel size of the training's volumes, if the network states it."""
        network = self.predictor
        return network.voxel_size_um if isinstance(network, StatesTraining) else None

    @property
    def input_percentiles(self) -> Mapping[str, Sequence[float]] | None:
        """Percentiles of the training's input, if the network states them."""
        network = self.predictor
        return network.input_percentiles if isinstance(network, StatesTraining) else None

    @property
    def tile_dependent_layers(self) -> tuple[str, ...]:
        """Layers that use statistics of the whole tile."""
        return self.predictor.tile_dependent_layers

    def input_shape(self, output_shape: Sequence[int]) -> ZYX:
        """Return the input for this output, rounded up to multiples of the divisor."""
        return self.predictor.input_shape(self._whole(output_shape))

    def flops(self, output_shape: Sequence[int]) -> int:
        """Return the floating-point operations of one tile, over all views."""
        whole = self._whole(output_shape)
        return sum(self.predictor.flops(view.orientation.shape_of(whole)) for view in self.views)

    def memory_bytes(self, output_shape: Sequence[int]) -> int:
        """Return the network's memory plus a turned input and the sum of scores, in float32."""
        whole = self._whole(output_shape)
        need = max(self.predictor.memory_bytes(shape) for shape in (whole, _turned(whole)))
        size = self.predictor.input_shape(whole)
        turned = self.in_channels * math.prod(size)
        return need + 4 * (turned + len(self.class_names) * math.prod(_output(size, self.halo)))

    def sweep_memory_bytes(self, output_shape: Sequence[int]) -> int | None:
        """Return the network's memory plus the sum of scores; None if it cannot be swept."""
        whole = self._whole(output_shape)
        needs = [sweep_memory_bytes(self.predictor, shape) for shape in (whole, _turned(whole))]
        known = [need for need in needs if need is not None]
        if len(known) < len(needs):
            return None
        scores = len(self.class_names) * math.prod(_output(self.input_shape(whole), self.halo))
        return max(known) + 4 * scores

    def sweep(self, read: ReadPlanes, input_shape: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        """Yield the mean probabilities (classes, z, y, x) of a tile, from one sweep per view."""
        network = self.predictor
        assert isinstance(network, Sweeps)
        total = np.zeros((len(self.class_names), *_output(input_shape, self.halo)), np.float32)
        for view in self.views:
            place = 0
            turned_total = turned(total, view.orientation)
            turned_read = _turned_read(read, view.orientation, planes=input_shape[0])
            for scores in network.sweep(turned_read, view.orientation.shape_of(input_shape)):
                view.add(scores, turned_total[:, place : place + scores.shape[1]])
                place += scores.shape[1]
        divide_by_views(total, self.views)
        yield total

    @property
    def takes_raw_planes(self) -> bool:
        """Whether the network does: it then averages on its device."""
        return takes_raw_planes(self.predictor)

    def stored_planes(
        self,
        read: ReadRaw,
        request: TileRequest,
        *,
        input_shape: Sequence[int],
        core_shape: Sequence[int],
    ) -> Iterator[StoredPlanes]:
        """Yield what is stored of a tile's core: of the mean that the network computes."""
        assert isinstance(self.predictor, StoresPlanes)
        of_all = replace(request, views=self.views)
        return self.predictor.stored_planes(
            read, of_all, input_shape=input_shape, core_shape=core_shape
        )

    def settled(self) -> TtaPredictor:
        """Return the same predictor with every ``auto`` resolved."""
        return replace(self, predictor=self.predictor.settled())

    def free_device_bytes(self) -> int | None:
        """Return the free memory of the network's device; None on the processor."""
        network = self.predictor
        return network.free_device_bytes() if isinstance(network, UsesDevice) else None

    def settings(self) -> Mapping[str, Any]:
        """Return the network's settings and ``tta``: both change the scores."""
        return {**self.predictor.settings(), "tta": self.tta}

    def __call__(self, x_nczyx: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean probabilities (n, classes, z, y, x) over all views.

        Raises ConfigError unless the scores are one halo smaller than their input on every side:
        mirrored scores would be shifted.
        """
        expected = _output(x_nczyx.shape[2:], self.halo)
        total = np.zeros((len(x_nczyx), len(self.class_names), *expected), np.float32)
        for view in self.views:
            x_turned = np.ascontiguousarray(turned(x_nczyx, view.orientation))
            scores = turned_back(self.predictor(x_turned), view.orientation)
            if scores.shape != total.shape:
                raise ConfigError(
                    f"the network returned scores of {shape_text(scores.shape[2:])} for "
                    f"{shape_text(x_nczyx.shape[2:])}: expected {shape_text(expected)} (halo "
                    f"{shape_text(self.halo)}) to mirror tiles; use --tta none"
                )
            view.add(scores.swapaxes(0, 1), total.swapaxes(0, 1))
        divide_by_views(total.swapaxes(0, 1), self.views)
        return total

    def _whole(self, output_shape: Sequence[int]) -> ZYX:
        z, y, x = (round_up(n, d) for n, d in zip(output_shape, self.divisor, strict=True))
        return z, y, x


def turned(array: NDArray[Any], orientation: Orientation) -> NDArray[Any]:
    """Return a view of an array (…, z, y, x) in this orientation."""
    mirrored = np.flip(array, _mirrored_axes(orientation))
    return np.rot90(mirrored, orientation.turns, axes=_PLANE)


def turned_back(array: NDArray[Any], orientation: Orientation) -> NDArray[Any]:
    """Return a view of an array in this orientation in its original one."""
    return np.flip(np.rot90(array, -orientation.turns, axes=_PLANE), _mirrored_axes(orientation))


def _mirrored_axes(orientation: Orientation) -> tuple[int, ...]:
    return (_Z,) * orientation.mirrored_z + (_X,) * orientation.mirrored_x


def _turned_read(read: ReadPlanes, orientation: Orientation, *, planes: int) -> ReadPlanes:
    """Return ``read`` for a tile of so many planes in this orientation."""

    def turned_planes(start: int, stop: int) -> NDArray[np.float32]:
        ends = orientation.planes_of(start, stop, planes=planes)
        return np.ascontiguousarray(turned(read(*ends), orientation))

    return turned_planes


def _turned(shape_zyx: Sequence[int]) -> ZYX:
    z, y, x = shape_zyx
    return z, x, y


def _output(input_zyx: Sequence[int], halo: ZYX) -> ZYX:
    z, y, x = (n - 2 * h for n, h in zip(input_zyx, halo, strict=True))
    return z, y, x


def _check_views(views: Sequence[View], tta: Tta) -> None:
    """Raise ConfigError for affinities in directions that no turned tile has."""
    if len(views) == 1:
        raise ConfigError(
            f"tta {tta} turns tiles, but in no turned tile has this network the affinities of its "
            "offsets: use --tta none"
        )


def _check_same_in_yx(predictor: Predictor, tta: Tta) -> None:
    """Raise ConfigError unless a turned tile is a valid tile."""
    halo, divisor = predictor.halo, predictor.divisor
    alike = halo == _turned(halo) and divisor == _turned(divisor)
    if not alike or any(
        predictor.input_shape(_turned(shape)) != _turned(predictor.input_shape(shape))
        for shape in _outputs(divisor)
    ):
        raise ConfigError(
            f"tta {tta} turns tiles, but this network differs in y and x (halo {shape_text(halo)}, "
            f"divisor {shape_text(divisor)}, z y x): use --tta none, or a network with the same "
            "kernels and poolings in y and x"
        )


def _check_one_grid(predictor: Predictor, tta: Tta) -> None:
    """Raise ConfigError unless all inputs end on one grid."""
    rests = {
        tuple(n % d for n, d in zip(predictor.input_shape(shape), predictor.divisor, strict=True))
        for shape in _outputs(predictor.divisor)
    }
    if len(rests) > 1:
        raise ConfigError(
            f"tta {tta} mirrors tiles, but the sizes of this network's inputs do not differ by "
            f"multiples of its divisor {shape_text(predictor.divisor)}: mirrored tiles would pool "
            "on different grids; use --tta none"
        )


def _outputs(divisor: ZYX) -> list[ZYX]:
    """Return some outputs that are multiples of the divisor, of different sizes."""
    z, y, x = divisor
    return [(a * z, b * y, c * x) for a, b, c in ((1, 1, 2), (2, 3, 1), (3, 2, 5), (1, 4, 3))]
