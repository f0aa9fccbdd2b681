"""The interface of a model: tiles in, scores out, and its geometry.

Any model with these members can be run, such as ``unet.UNetPredictor`` or a class of your own. It
is pickled and sent to the workers, so it should be small and load its weights there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..base.network_outputs import CLASSES, NetworkOutputs
from ..base.tile_request import StoredPlanes, TileRequest


@runtime_checkable
class StatesTraining(Protocol):
    """A predictor that also states what it was trained on. Optional; used for warnings."""

    @property
    def voxel_size_um(self) -> tuple[float | None, float | None, float | None] | None:
        """Voxel size of the training's volumes in µm (z, y, x); None where it does not matter."""

    @property
    def input_percentiles(self) -> Mapping[str, Sequence[float]] | None:
        """Percentiles "1", "50" and "99" of the network's input in training, per channel."""


@runtime_checkable
class StatesOutputs(Protocol):
    """A predictor that states what the channels of its scores are. Optional; without, classes."""

    @property
    def outputs(self) -> NetworkOutputs:
        """What they are, with offsets along z, y and x."""


def outputs_of(predictor: object) -> NetworkOutputs:
    """Return what the channels of a predictor's scores are."""
    return predictor.outputs if isinstance(predictor, StatesOutputs) else CLASSES


@runtime_checkable
class UsesDevice(Protocol):
    """A predictor that may compute on a device with separate memory, a GPU. Optional."""

    def free_device_bytes(self) -> int | None:
        """Return the free memory of this process's device; None on the processor."""


ReadPlanes: TypeAlias = Callable[[int, int], NDArray[np.float32]]
"""From the first plane (z) and the one after the last to normalised planes (channel, z, y, x)."""


@runtime_checkable
class Sweeps(Protocol):
    """A predictor that can also compute a deep tile plane by plane along z. Optional.

    The scores are those of the whole tile, but memory depends little on the tile's depth.
    """

    def sweep_memory_bytes(self, output_shape: Sequence[int]) -> int | None:
        """Return the peak memory of a swept tile with at least this output, without the weights.

        None if this network cannot be swept.
        """

    def sweep(self, read: ReadPlanes, input_shape: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        """Yield the scores (class, z, y, x) of a tile, some planes at a time, in order.

        read: returns planes of the tile's input, which is ``input_shape`` (z, y, x); it is called
        for no more than some planes at once. Raises MemoryError where the tile does not fit the
        device; the caller then halves it in y or x.
        """


ReadRaw: TypeAlias = Callable[[int, int], NDArray[Any]]
"""From the first plane (z) and the one after the last to raw planes (channel, z, y, x)."""


@runtime_checkable
class StoresPlanes(Protocol):
    """A predictor that takes raw planes to its device and returns what is stored. Optional.

    Normalisation, classes and stored types are then computed there; without this, on the host, from
    the scores of a call or a sweep. Both give the same bits on a processor.
    """

    @property
    def takes_raw_planes(self) -> bool:
        """Whether :meth:`stored_planes` can be used."""

    def stored_planes(
        self,
        read: ReadRaw,
        request: TileRequest,
        *,
        input_shape: Sequence[int],
        core_shape: Sequence[int],
    ) -> Iterator[StoredPlanes]:
        """Yield what is stored of a tile's core (z, y, x), some planes at a time, in order.

        read: returns planes of the tile's input, which is ``input_shape``, in any dtype and byte
        order. The core starts one halo inside it. Raises MemoryError where the tile does not fit
        the device; the caller then halves it, and takes planes that were yielded again.
        """


@runtime_checkable
class Predictor(Protocol):
    """A callable from tiles to scores. All shapes are (z, y, x), also of a 2-D network.

    A 2-D network has halo 0 and divisor 1 in z, and treats each z as an image.
    """

    @property
    def digest(self) -> str:
        """Identifies the weights; differs where the scores would differ."""

    @property
    def in_channels(self) -> int:
        """Input channels."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per channel of the scores; of classes, class 0 is background."""

    @property
    def halo(self) -> tuple[int, int, int]:
        """Context per side in voxels, of a core that starts at a multiple of the divisor.

        A score elsewhere on the pooling grid may see up to a divisor further to one side; the input
        of :meth:`input_shape` includes that. A padded ("same") network has a halo that is a
        multiple of the divisor, takes output + 2 halo, and crops the halo itself; see
        ``pipeline.SamePadded``. ``pipeline.check_predictor`` verifies the values.
        """

    @property
    def divisor(self) -> tuple[int, int, int]:
        """Product of the pooling factors: tiles must start at multiples of it."""

    @property
    def normalisation(self) -> Mapping[str, Any] | None:
        """The normalisation record that the weights were trained with, if stated."""

    @property
    def tile_dependent_layers(self) -> tuple[str, ...]:
        """Layers that use statistics of the whole tile: tiled scores differ from whole ones."""

    def input_shape(self, output_shape: Sequence[int]) -> tuple[int, int, int]:
        """Return the smallest valid input whose scores cover at least ``output_shape``.

        It starts one halo before the output; any excess over output + 2 halo lies at its end.
        """

    def flops(self, output_shape: Sequence[int]) -> int:
        """Return the floating-point operations of one tile with at least this output.

        Of the whole input, halo included: the planner compares tiles by it.
        """

    def memory_bytes(self, output_shape: Sequence[int]) -> int:
        """Return the peak memory of one tile with at least this output, without the weights."""

    def settled(self) -> Predictor:
        """Return the same predictor with every ``auto`` resolved; called once, on a worker."""

    def settings(self) -> Mapping[str, Any]:
        """Return other settings that change the scores (e.g. precision); part of the job digest."""

    def __call__(self, x_nczyx: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return scores (n, classes, z, y, x) of normalised tiles (n, channels, z, y, x), 0 to 1.

        The scores' first voxel lies one halo inside the input's first. Raises MemoryError if
        the tile does not fit the device; the caller then halves it.
        """
