"""One slice file, TIFF or PNG: its plane without the pixels, and its pixels chunk by chunk."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from ...base.errors import VolumeError
from ...base.location import Location
from ...base.store_errors import one_line
from .files import file_bytes, open_file, read_bytes, read_head
from .image import ZYX, Units
from .tiff import TiffChunks
from .tiff_checks import check_complete, check_readable, damage_explained, opened
from .tiff_metadata import voxels_of

SUFFIXES: Final = (".tif", ".tiff", ".png")
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_HEAD: Final = 2**16
"""Bytes that hold what comes before the pixels, but for large colour profiles."""
_PNG_MOST_RATIO: Final = 1100
"""Deflate stores at most 1032 bytes in one."""
_PNG_SAMPLES: Final = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
"""Samples per pixel by colour type; a palette is decoded to RGB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """What a slice file states: axes ``yx``, or ``yxc`` or ``cyx`` for several samples."""

    axes: str
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    voxel_size: ZYX = (1.0, 1.0, 1.0)
    unit: Units = (None, None, None)


def plane_of(file: Location) -> Plane:
    """Return the plane of a file; reads its header only. Raises VolumeError."""
    if file.is_local and not file.path.is_file():  # a pipe would be waited for
        raise VolumeError(f"{file} is not a file, or a link to nothing: remove it")
    return _png_plane(file) if file.name.lower().endswith(".png") else _tiff_plane(file)


def read_plane_chunk(file: Location, plane: Plane, index: tuple[int, ...]) -> NDArray[Any]:
    """Return one chunk of a file's plane. Raises VolumeError for a file that changed."""
    if file.name.lower().endswith(".png"):
        pixels = _decoded_png(file)
        if pixels.shape != plane.shape or pixels.dtype.name != plane.dtype:
            raise VolumeError(f"{file} differs from the first slice: the input changed")
        return pixels
    with opened(open_file(file), file) as tiff:
        chunks = TiffChunks(tiff, tiff.series[0])
        if chunks.shape != plane.shape or chunks.chunks != plane.chunks:
            return _recut(chunks, plane, index, file)
        return chunks.read(index)


def _recut(
    chunks: TiffChunks, plane: Plane, index: tuple[int, ...], file: Location
) -> NDArray[Any]:
    """Return a chunk of the first file's cut from a file that is cut differently."""
    from .chunked import ChunkedArray

    if chunks.shape != plane.shape:
        raise VolumeError(f"{file} differs from the first slice: the input changed")
    whole = ChunkedArray(chunks.shape, chunks.chunks, chunks.dtype, chunks.read)
    place = tuple(
        slice(i * size, min((i + 1) * size, length))
        for i, size, length in zip(index, plane.chunks, plane.shape, strict=True)
    )
    return whole[place]


def _tiff_plane(file: Location) -> Plane:
    with damage_explained(file), opened(open_file(file), file) as tiff:
        if len(tiff.series) != 1 or len(tiff.pages) != 1:
            raise VolumeError(
                f"{file} has {len(tiff.pages)} pages: a stack of slices has one page per file; "
                "pass the file itself as the input"
            )
        series = tiff.series[0]
        check_readable(series, str(file))
        check_complete(series, file_bytes(file), str(file))
        size, unit, _ = voxels_of(tiff, 0, level=0)
        return Plane(
            axes=series.axes.replace("S", "C").lower(),
            shape=series.shape,
            dtype=series.dtype.name,
            chunks=TiffChunks(tiff, series).chunks,
            voxel_size=size,
            unit=unit,
        )


def _png_plane(file: Location) -> Plane:
    """Read width, height, bits and colour type from the first chunk (PNG specification, 11.2.1)."""
    head = read_head(file, _PNG_HEAD)
    if len(head) < 33 or not head.startswith(_PNG) or head[12:16] != b"IHDR":
        raise VolumeError(f"{file} is not a PNG file, or is truncated")
    width, height, bits, colour = struct.unpack(">IIBB", head[16:26])
    if not width or not height:
        raise VolumeError(f"{file} is empty: its shape is {height}×{width}")
    if width * height // 8 > _PNG_MOST_RATIO * file_bytes(file):
        raise VolumeError(f"{file} is truncated: it states {height}×{width} pixels; copy it again")
    samples = _PNG_SAMPLES.get(colour, 1) + _has_transparent_colour(head)
    shape = (height, width) if samples == 1 else (height, width, samples)
    dtype = "uint16" if bits == 16 else "uint8"
    return Plane(axes="yxc"[: len(shape)], shape=shape, dtype=dtype, chunks=shape)


def _has_transparent_colour(head: bytes) -> bool:
    """Return whether a tRNS chunk comes before the pixels: one more sample is decoded then."""
    place = 33
    while place + 8 <= len(head):
        length, kind = struct.unpack(">I4s", head[place : place + 8])
        if kind in (b"tRNS", b"IDAT"):
            return bool(kind == b"tRNS")
        place += 12 + length
    return False


def _decoded_png(file: Location) -> NDArray[Any]:
    try:
        return np.asarray(imagecodecs.png_decode(read_bytes(file)))
    except VolumeError:
        raise
    except Exception as error:
        raise VolumeError(f"{file} cannot be decoded ({one_line(str(error))})") from error
