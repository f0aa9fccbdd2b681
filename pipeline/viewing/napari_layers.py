"""The layers of a view as napari takes them: values that are read when they are shown, and how.

Every image that overtile reads is shown, also where no plugin of napari reads it. napari itself
is not imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from ..base.geometry import Box
from ..output.image_spec import colour
from ..volume.micrometres import UM_PER_UNIT
from ..volume.volume import VolumeSource
from .decoded_chunks import DecodedChunks
from .layers import Layer, View
from .virtual_zarr import axis_units, chunk_shape, shown_dtype, voxel_step

_WHITE: Final = (255, 255, 255)
_Read = Callable[[VolumeSource, Box], NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NapariLayer:
    """One layer, for ``viewer.add_image`` or ``viewer.add_labels``."""

    kind: Literal["image", "labels"]
    levels: tuple[da.Array, ...]
    """Of shape (z, y, x), the finest first."""
    about: dict[str, Any]
    """The other arguments: name, scale, colours …"""


def napari_layers(view: View) -> Iterator[NapariLayer]:
    """Yield the layers of a view, the undermost first. No voxel is read."""
    read = DecodedChunks().read
    has_um = all(_um(unit) is not None for one in view.layers for unit in axis_units(one.source))
    for layer in view.layers:
        dtype = shown_dtype(layer)
        yield NapariLayer(
            kind="labels" if layer.kind == "labels" else "image",
            levels=tuple(_lazy(level, dtype, read) for level in layer.levels),
            about={
                **_placed(layer.source, has_um=has_um),
                **(_labels(layer) if layer.kind == "labels" else _image(layer)),
            },
        )


class _Voxels:
    """One level as an array whose parts are read from the volume."""

    def __init__(self, source: VolumeSource, dtype: np.dtype[Any], read: _Read) -> None:
        self.shape, self.dtype, self.ndim = source.shape_zyx, dtype, 3
        self._source, self._read = source, read

    def part(self, index: tuple[slice, ...]) -> NDArray[Any]:
        """Return the voxels of one chunk."""
        box = Box(tuple(one.start for one in index), tuple(one.stop for one in index))
        return self._read(self._source, box)[0].astype(self.dtype)


def _lazy(source: VolumeSource, dtype: np.dtype[Any], read: _Read) -> da.Array:
    lazy: da.Array = da.from_array(
        _Voxels(source, dtype, read), chunks=chunk_shape(source), name=False,
        getitem=_Voxels.part,  # dask does not merge it with other slices, as it does its own
        meta=np.empty((0, 0, 0), dtype),
    )  # fmt: skip
    return lazy


def _placed(source: VolumeSource, *, has_um: bool) -> dict[str, Any]:
    """Return size of the voxels and place of the first one: in µm, or in the image's numbers."""
    factors = [_um(unit) or 1.0 if has_um else 1.0 for unit in axis_units(source)]
    placed = {
        "scale": [size * f for size, f in zip(voxel_step(source), factors, strict=True)],
        "translate": [at * f for at, f in zip(source.translation, factors, strict=True)],
    }
    return placed | ({"units": ["um"] * 3} if has_um else {})


def _um(unit: str | None) -> float | None:
    return UM_PER_UNIT.get(unit.lower()) if unit else None


def _image(layer: Layer) -> dict[str, Any]:
    white = layer.colour == _WHITE
    return {
        "name": layer.name,
        "visible": layer.is_shown,
        "contrast_limits": [*layer.window],
        "colormap": "gray" if white else _hex(layer.colour),
        "blending": "additive",
        "opacity": 1.0 if layer.kind == "raw" else 0.6,
    }


def _labels(layer: Layer) -> dict[str, Any]:
    about: dict[str, Any] = {"name": layer.name, "visible": layer.is_shown, "opacity": 0.5}
    if not layer.class_names:
        return about  # all objects, in napari's colours
    colours: dict[int | None, str] = {None: "transparent"}
    colours |= {number: _hex(colour(number)) for number in range(1, len(layer.class_names))}
    return about | {
        "colormap": colours,
        "features": {
            "index": [*range(len(layer.class_names))], "class": [*layer.class_names],
        },
    }  # fmt: skip


def _hex(rgb: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in rgb)
