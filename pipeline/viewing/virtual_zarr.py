"""A layer as a small Zarr hierarchy that exists only in answers: OME-Zarr 0.4, not compressed.

So a viewer reads whatever overtile reads: TIFF, private buckets, float16, arrays with time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..base.geometry import Box, Shape
from ..volume.volume import VolumeSource, read_box
from .layers import Layer

MOST_VOXELS: Final = 2**19
"""Of a chunk: half a million voxels are on the screen within a moment."""


def answer(
    layer: Layer, key: str, *, read: Callable[[VolumeSource, Box], NDArray[Any]] = read_box
) -> bytes | None:
    """Return the content of a key like ``.zattrs`` or ``0/3/1/2``; None where there is no such key.

    Chunks hold voxels in the order z, y, x; past the volume's edge they are 0. Raises VolumeError
    where voxels cannot be read. read: what reads parts of stored chunks.
    """
    if key == ".zgroup":
        return _json({"zarr_format": 2})
    if key == ".zattrs":
        return _json({"multiscales": [_multiscale(layer)]})
    number, _, rest = key.partition("/")
    if not number.isdecimal() or int(number) >= len(layer.levels):
        return None
    source = layer.levels[int(number)]
    if rest == ".zarray":
        return _json(_array(layer, source))
    is_part = chunk_shape(source) != _stored_chunk(source)
    return _chunk(layer, source, rest, read=read if is_part else read_box)


def shown_dtype(layer: Layer) -> np.dtype[Any]:
    """Return a data type that viewers read: labels without a sign, grey values of at most 32 bits.

    >>> from types import SimpleNamespace as Some
    >>> source = Some(read_dtype="float16")
    >>> str(shown_dtype(Some(kind="scores", source=source)))
    'float32'
    """
    stored = np.dtype(layer.source.read_dtype)
    if layer.kind == "labels":
        return np.dtype("<u8" if stored.itemsize == 8 else "<u4")
    is_known = stored.itemsize <= 4 and stored.kind in "iu"
    return stored.newbyteorder("<") if is_known else np.dtype("<f4")


def chunk_shape(source: VolumeSource) -> Shape:
    """Return the stored chunk, halved along its longest axis until it is small enough."""
    chunk = [*_stored_chunk(source)]
    while prod(chunk) > MOST_VOXELS:
        longest = chunk.index(max(chunk))
        chunk[longest] = -(-chunk[longest] // 2)
    return tuple(chunk)


def _stored_chunk(source: VolumeSource) -> Shape:
    return tuple(min(n, c) for n, c in zip(source.shape_zyx, source.chunk_shape_zyx, strict=True))


def axis_units(source: VolumeSource) -> tuple[str | None, ...]:
    """Return the units of z, y, x; a 2-D image has its pixels' unit along z too."""
    z, y, x = source.unit
    return (z if "z" in source.axes else y, y, x)


def voxel_step(source: VolumeSource) -> tuple[float, ...]:
    """Return the size of a voxel along z, y, x; that of a 2-D image along z is that along y."""
    z, y, x = source.voxel_size
    return (z if "z" in source.axes else y, y, x)


def _multiscale(layer: Layer) -> dict[str, Any]:
    axes = [
        {"name": axis, "type": "space", **({"unit": unit} if unit else {})}
        for axis, unit in zip("zyx", axis_units(layer.source), strict=True)
    ]
    datasets = [
        {
            "path": str(number),
            "coordinateTransformations": [
                {"type": "scale", "scale": [*voxel_step(level)]},
                {"type": "translation", "translation": [*level.translation]},
            ],
        }
        for number, level in enumerate(layer.levels)
    ]
    return {"version": "0.4", "name": layer.name, "axes": axes, "datasets": datasets}


def _array(layer: Layer, source: VolumeSource) -> dict[str, Any]:
    return {
        "zarr_format": 2,
        "shape": [*source.shape_zyx],
        "chunks": [*chunk_shape(source)],
        "dtype": shown_dtype(layer).str,
        "compressor": None,
        "filters": None,
        "fill_value": 0,
        "order": "C",
        "dimension_separator": "/",
    }


def _chunk(
    layer: Layer,
    source: VolumeSource,
    index: str,
    *,
    read: Callable[[VolumeSource, Box], NDArray[Any]],
) -> bytes | None:
    parts = index.split("/")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        return None
    chunk = chunk_shape(source)
    start = tuple(int(part) * size for part, size in zip(parts, chunk, strict=True))
    if any(a >= n for a, n in zip(start, source.shape_zyx, strict=True)):
        return None
    whole = Box(start, tuple(a + c for a, c in zip(start, chunk, strict=True)))
    box = whole.clipped_to(Box.of_shape(source.shape_zyx))
    values = np.zeros(chunk, shown_dtype(layer))
    values[box.relative_to(start).slices] = read(source, box)[0]
    return values.tobytes()


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()
