"""A trained U-Net as a predictor: tiles in, scores out.

A predictor is small and is pickled to the workers. It holds the header of its weights; the tensors
are loaded once per process, at the first call. Nothing here imports torch before that.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from pipeline.base.errors import ConfigError
from pipeline.base.network_outputs import NetworkOutputs
from pipeline.base.store_errors import redacted
from pipeline.base.tile_request import StoredPlanes, TileRequest

from ..network.config import UNetConfig
from ..weights.file import WeightsInfo, read_weights_info
from ..weights.location import settle_uri
from .cpu_features import processor_has_bf16

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..network.model import UNet

Precision: TypeAlias = Literal["auto", "bf16", "fp32"]

ELEMENT_BYTES = {"bf16": 2, "fp32": 4}

SUB_BATCH_BYTES = 2**29
"""Images of a tile go through the network together up to this many bytes, at least one image."""


@dataclass(frozen=True, slots=True)
class UNetPredictor:
    """A trained U-Net as ``pipeline.Predictor``. All shapes are (z, y, x), also of a 2-D network.

    weights_uri: local path (made absolute), fsspec URI, or bundled name.
    precision: ``bf16``, ``fp32``, or ``auto``: bf16 where the device computes in it natively.
    device: ``cpu``, ``cuda``, ``cuda:N``, or ``auto``: the process's GPU if it has one.

    Raises WeightsError for weights that cannot be read, ConfigError for an unknown precision or
    device. Whether the device exists is checked where the predictor is used.
    """

    weights_uri: str
    precision: Precision = field(default="auto", kw_only=True)
    device: str = field(default="auto", kw_only=True)
    info: WeightsInfo = field(init=False, repr=False)
    """Header of the weights file when the predictor was made; pickled with it."""

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ConfigError(f"precision is {self.precision!r}: expected auto, bf16 or fp32")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(self.device)):
            raise ConfigError(f"device is {self.device!r}: expected auto, cpu, cuda or cuda:N")
        object.__setattr__(self, "weights_uri", settle_uri(self.weights_uri))
        object.__setattr__(self, "info", read_weights_info(self.weights_uri))

    def __repr__(self) -> str:
        settings = f"precision={self.precision!r}, device={self.device!r}"
        return f"UNetPredictor({redacted(self.weights_uri)!r}, {settings})"

    @property
    def config(self) -> UNetConfig:
        """The network's config."""
        return self.info.config

    @property
    def digest(self) -> str:
        """SHA-256 of the weights file."""
        return self.info.digest

    @property
    def in_channels(self) -> int:
        """Channels of the volume that go in at once."""
        return self.config.in_channels

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per channel of the scores; of classes, class 0 is background."""
        return self.info.class_names

    @property
    def outputs(self) -> NetworkOutputs:
        """What the channels of the scores are."""
        return self.info.outputs.in_zyx()

    @property
    def halo(self) -> tuple[int, int, int]:
        """Context per side in voxels; 0 in z for a 2-D network."""
        return self._zyx(self.config.halo, planar=0)

    @property
    def divisor(self) -> tuple[int, int, int]:
        """Product of the pooling factors; 1 in z for a 2-D network."""
        return self._zyx(self.config.divisor, planar=1)

    @property
    def normalisation(self) -> Mapping[str, Any] | None:
        """The normalisation that the weights were trained with, or None if they state none."""
        return self.info.normalisation

    @property
    def voxel_size_um(self) -> tuple[float | None, float | None, float | None] | None:
        """Voxel size of the training's volumes in µm; None in z for a 2-D network.

        None if the weights do not state it.
        """
        sizes = self.info.voxel_size_um
        if sizes is None:
            return None
        z, y, x = sizes if self.config.dims == 3 else (None, *sizes)
        return z, y, x

    @property
    def input_percentiles(self) -> Mapping[str, Sequence[float]] | None:
        """Percentiles 1, 50, 99 of the training's input per channel, or None if not stated."""
        return self.info.input_percentiles

    @property
    def tile_dependent_layers(self) -> tuple[str, ...]:
        """Layers that use statistics of the whole tile; with any, tiled does not equal whole."""
        return self.config.tile_dependent_layers

    def input_shape(self, output_shape: Sequence[int]) -> tuple[int, int, int]:
        """Return the smallest valid input whose scores cover at least ``output_shape``."""
        planes, own = self._split(output_shape)
        return self._zyx(self.config.input_shape(own), planar=planes)

    def flops(self, output_shape: Sequence[int]) -> int:
        """Return the floating-point operations of one tile with at least this output."""
        planes, own = self._split(output_shape)
        return planes * self.config.flops(self.config.input_shape(own))

    def memory_bytes(self, output_shape: Sequence[int]) -> int:
        """Return the peak memory in bytes of one tile with at least this output, without weights.

        The activations of the images that go through together, and the whole tile's input and
        scores in float32. A call holds these; a run holds raw values and what is stored instead.
        """
        planes, own = self._split(output_shape)
        shape = self.config.input_shape(own)
        out = self.config.output_shape(shape)
        together = self.images_together(shape, images=planes)
        in_and_out = self.in_channels * math.prod(shape) + self.config.classes * math.prod(out)
        return together * self.image_bytes(shape) + 4 * planes * in_and_out

    def image_bytes(self, input_shape: Sequence[int]) -> int:
        """Return the peak memory in bytes of one image of the network's own axes, (z,) y, x.

        ``auto`` counts as the precision of this machine's processor; a run computes the figure
        again with the precision that its workers choose.
        """
        return self.config.peak_activation_bytes(input_shape, element_bytes=self._element_bytes)

    @property
    def _element_bytes(self) -> int:
        precision = self.precision
        if precision == "auto":
            precision = "bf16" if processor_has_bf16() else "fp32"
        return ELEMENT_BYTES[precision]

    def images_together(self, input_shape: Sequence[int], *, images: int) -> int:
        """Return how many of so many images go through the network at once."""
        return max(1, min(images, SUB_BATCH_BYTES // self.image_bytes(input_shape)))

    def sweep_memory_bytes(self, output_shape: Sequence[int]) -> int | None:
        """Return the peak memory in bytes of a swept tile with at least this output, or None.

        None for a network that cannot be swept (its layers use statistics of the whole tile), for
        a 2-D one, whose tiles are large enough to compute little twice, and in a subclass with
        another call but the same sweep, or the other way round: their scores would differ.
        """
        own = type(self)
        has_call, has_sweep = (
            getattr(own, name) is not getattr(UNetPredictor, name) for name in ("__call__", "sweep")
        )
        if self.config.dims == 2 or self.tile_dependent_layers or has_call != has_sweep:
            return None
        from .sweep.memory import sweep_bytes

        shape = self.config.input_shape(self._split(output_shape)[1])
        return sweep_bytes(self.config, shape, element_bytes=self._element_bytes)

    def sweep(
        self, read: Callable[[int, int], NDArray[np.float32]], input_shape: Sequence[int]
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the scores (classes, z, y, x) of a tile, some planes at a time, in order.

        read: from the first plane and the one after the last to planes (channels, z, y, x) of the
        normalised input, whose shape is ``input_shape``. Raises the errors of a call.
        """
        from .swept import swept_scores

        self.config.output_shape(input_shape)
        return swept_scores(self._model(), read, input_shape=input_shape)

    @property
    def takes_raw_planes(self) -> bool:
        """Whether the device normalises, and computes what is stored.

        Not in a subclass with another call or sweep, whose scores are what should be stored.
        """
        own = type(self)
        return own.__call__ is UNetPredictor.__call__ and own.sweep is UNetPredictor.sweep

    def stored_planes(
        self,
        read: Callable[[int, int], NDArray[Any]],
        request: TileRequest,
        *,
        input_shape: Sequence[int],
        core_shape: Sequence[int],
    ) -> Iterator[StoredPlanes]:
        """Yield what is stored of a tile's core (z, y, x), some planes at a time, in order.

        read: from the first plane and the one after the last to raw planes (channels, z, y, x) of
        the tile's input, whose shape is ``input_shape``. Raises the errors of a call.
        """
        from .raw_planes import RawTile, swept_tile, whole_tile

        planes, own = self._split(input_shape)
        self.config.output_shape(own)
        tile = RawTile(
            model=self._model(),
            read=read,
            request=request,
            input_shape=tuple(input_shape),
            core_shape=tuple(core_shape),
        )
        if request.traversal == "sweep":
            return swept_tile(tile)
        return whole_tile(tile, together=self.images_together(own, images=planes))

    def settled(self) -> UNetPredictor:
        """Return the same predictor with ``auto`` precision replaced by this machine's.

        The device is not replaced: ``auto`` means the GPU of the process that computes, if any.
        The weights are loaded, so that errors in them show before a run begins. Raises ConfigError
        for a GPU that does not exist or a precision that this processor does not support,
        WeightsError for broken weights.
        """
        from . import runtime

        twin = copy.copy(self)
        device = runtime.settle_device(self.device)
        precision = runtime.settle_precision(self.precision, device)
        runtime.loaded_model(self.weights_uri, self.digest, str(device), precision)
        object.__setattr__(twin, "precision", precision)
        return twin

    def free_device_bytes(self) -> int | None:
        """Return the free memory of the GPU that this process computes on; None without one."""
        from . import runtime

        return runtime.free_device_bytes(runtime.settle_device(self.device))

    def settings(self) -> Mapping[str, Any]:
        """Return the settings that change the scores; part of the job digest."""
        return {"precision": self.precision}

    def __call__(self, x_nczyx: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return scores (n, classes, z, y, x) for normalised tiles (n, channels, z, y, x).

        The scores' first voxel lies one halo inside the input's first. Raises MemoryError where
        the tile does not fit the device, ConfigError for a shape that the network does not take,
        WeightsError where the weights changed since the predictor was made.
        """
        from . import runtime

        if x_nczyx.ndim != 5 or x_nczyx.shape[1] != self.in_channels:
            raise ConfigError(
                f"tiles of shape {x_nczyx.shape}: expected (n, {self.in_channels}, z, y, x); the "
                f"weights have {self.in_channels} input channel(s)"
            )
        model = self._model()
        images = x_nczyx if self.config.dims == 3 else _slices(x_nczyx)
        together = self.images_together(images.shape[2:], images=len(images))
        scores = runtime.scores(model, images, together=together)
        if self.config.dims == 3:
            return scores
        n, _, z, *_ = x_nczyx.shape
        return scores.reshape(n, z, *scores.shape[1:]).swapaxes(1, 2)

    def _model(self) -> UNet:
        """Return the model on its device, loaded once per process."""
        from . import runtime

        device = runtime.settle_device(self.device)
        precision = runtime.settle_precision(self.precision, device)
        return runtime.loaded_model(self.weights_uri, self.digest, str(device), precision)

    def _split(self, shape_zyx: Sequence[int]) -> tuple[int, tuple[int, ...]]:
        """Return how many images a (z, y, x) shape is, and the shape of one of them."""
        shape = tuple(int(size) for size in shape_zyx)
        if len(shape) != 3:
            raise ConfigError(f"shape {shape} has {len(shape)} axes: expected (z, y, x)")
        return (shape[0], shape[1:]) if self.config.dims == 2 else (1, shape)

    def _zyx(self, own: Sequence[int], *, planar: int) -> tuple[int, int, int]:
        """Return ``own`` per axis (z, y, x), with ``planar`` in z for a 2-D network."""
        z, y, x = own if self.config.dims == 3 else (planar, *own)
        return z, y, x


def _slices(x_nczyx: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return every slice as a separate image: (n * z, c, y, x)."""
    n, channels, z, y, x = x_nczyx.shape
    return x_nczyx.swapaxes(1, 2).reshape(n * z, channels, y, x)
