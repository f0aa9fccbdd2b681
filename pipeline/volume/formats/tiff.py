"""TIFF: OME-TIFF, ImageJ, BigTIFF, tiled and pyramidal TIFF, and slides that tifffile reads.

An image (tifffile's *series*) of a file with several is named like a folder in it: ``a.tif/1``.
Strips and tiles are decoded one by one; uncompressed local images are memory-mapped. A page that is
a single compressed strip is decoded whole, however small the part of it that is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, Final, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray
from tifffile.zarr import ZarrTiffStore
from zarr.core.buffer import default_buffer_prototype

from ...base.errors import VolumeError
from ...base.location import Location
from ...base.text import shape_text, size_text
from . import axes as axes_of
from .chunked import ChunkedArray
from .files import file_bytes, is_pattern, open_file, read_head
from .image import Readable, Selection, StoredImage
from .tiff_checks import check_complete, check_readable, damage_explained, opened
from .tiff_metadata import channel_names, voxels_of

SUFFIXES: Final = (
    ".tif", ".tiff", ".btf", ".tf8", ".tf2", ".svs", ".ndpi", ".scn", ".qptiff", ".bif", ".lsm",
    ".stk", ".flex",
)  # fmt: skip
_MAGIC: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SLIDES: Final = frozenset(("svs", "ndpi", "scn", "qpi", "bif", "philips", "ventana", "indica"))
"""Kinds of files whose further series are pictures of the label and the like."""
WHOLE_PAGE_BYTES: Final = 2**20
"""Pages of at most this size are one chunk: fewer reads than strip by strip."""
_MAPPED_BYTES: Final = 2**16
_STATE_NO_AXES: Final = frozenset(("generic", "uniform", "shaped"))
"""Kinds of files without metadata on axes. By default, Python's tifffile writes a stack of 3 or 4
slices as the colours of one image."""
_LETTERS: Final = {"S": "c", "I": "z", "Q": "z", "R": "z"}


class TiffFormat:
    """Reads TIFF files through tifffile."""

    name = "tiff"

    def recognises(self, location: Location) -> bool:
        """Return whether the location is a TIFF file, or an image inside one."""
        return _split(location) is not None

    def describe(
        self, location: Location, *, level: int | str | None, axes: str | None
    ) -> StoredImage:
        """Return one image of a file at a level; reads tags only."""
        store, number = _split(location) or (location, None)
        with damage_explained(store), opened(open_file(store), store) as tiff:
            index = _chosen_series(tiff, number, store)
            series = tiff.series[index]
            where = str(store / str(index)) if number is not None else str(store)
            at = _chosen_level(series, level, where)
            stored = series.levels[at]
            check_readable(stored, where)
            size = file_bytes(store)
            check_complete(stored, size, where)
            names, notes = _axes(stored, axes, where)
            chunks = TiffChunks(tiff, stored).chunks
            is_mapped = store.is_local and _is_mappable(stored)
            if is_mapped:
                chunks = _mapped_chunks(stored, names)
            voxel_size, unit, more = voxels_of(tiff, index, level=at)
            return StoredImage(
                store=store,
                path=f"{index}/{at}",
                axes=names,
                shape=stored.shape,
                dtype=stored.dtype.name,
                chunks=chunks,
                channel_names=channel_names(tiff, index),
                voxel_size=voxel_size,
                unit=unit,
                image=location,
                level_names=tuple(map(str, range(len(series.levels)))),
                name=None,
                description={
                    "format": self.name,
                    "file_bytes": size,
                    "shape": list(stored.shape),
                    "dtype": stored.dtype.name,
                    "compression": int(stored.keyframe.compression),
                },
                axes_are_stated=not notes,
                notes=(*notes, *more, *_reading_note(stored, chunks, is_mapped=is_mapped)),
            )

    def open(self, store: Location, path: str) -> Readable:
        """Open one level of one series; the file stays open as long as the array exists."""
        index, level = map(int, path.split("/"))
        tiff = opened(open_file(store), store)
        series = tiff.series[index].levels[level]
        if store.is_local and _is_mappable(series):
            tiff.close()
            return MappedArray(store, series, tiff.byteorder)
        return tiff_array(tiff, series)


class MappedArray:
    """An uncompressed local image, mapped for each read.

    A lasting map would count as the worker's memory, page by page, up to the whole file.
    """

    def __init__(
        self, file: Location, series: tifffile.TiffPageSeries, byteorder: Literal["<", ">"]
    ) -> None:
        self.shape = series.shape
        self.dtype = np.dtype(series.dtype).newbyteorder(byteorder)
        self._path, self._offset = file.path, series.dataoffset

    def __getitem__(self, selection: Selection) -> NDArray[Any]:
        """Return the voxels of slices inside the array and of single indices."""
        assert self._offset is not None
        mapped = np.memmap(self._path, self.dtype, "r", self._offset, self.shape)
        return np.array(mapped[selection])


def tiff_array(tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> ChunkedArray:
    """Return a series as an array whose chunks are decoded in the thread that reads them."""
    chunks = TiffChunks(tiff, series)
    return ChunkedArray(chunks.shape, chunks.chunks, chunks.dtype, chunks.read)


class TiffChunks:
    """The strips, tiles or pages of a series, read through tifffile's Zarr interface."""

    def __init__(self, tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> None:
        self._tiff = tiff  # closes its file when it is no longer referenced
        is_small = series.keyframe.nbytes <= WHOLE_PAGE_BYTES
        self._store = ZarrTiffStore(
            series, level=0, chunkmode=2 if is_small else 0, multiscales=False, maxworkers=1
        )
        self._is_zarr_3 = (described := self._get(".zarray")) is None  # of later tifffiles
        if described is None:
            described = self._get("zarr.json")
        assert described is not None, "tifffile always describes its array"
        document = json.loads(described.tobytes())
        chunks = document.get("chunks") or document["chunk_grid"]["configuration"]["chunk_shape"]
        self.shape: tuple[int, ...] = tuple(document["shape"])
        self.chunks: tuple[int, ...] = tuple(chunks)
        self.dtype = np.dtype(document.get("dtype") or document["data_type"])
        self._fill_value = document["fill_value"] or 0

    def read(self, index: tuple[int, ...]) -> NDArray[Any]:
        """Return one chunk, of the full size also at the image's end."""
        key = "/".join(("c", *map(str, index))) if self._is_zarr_3 else ".".join(map(str, index))
        content = self._get(key)
        if content is None:  # a tile that the file leaves out
            return np.full(self.chunks, self._fill_value, self.dtype)
        return content.view(np.uint8).view(self.dtype).reshape(self.chunks)

    def _get(self, key: str) -> NDArray[np.uint8] | None:
        """Return a value of the store, in this thread: Zarr's own loop would decode in one."""
        try:
            self._store.get(key, default_buffer_prototype()).send(None)
        except StopIteration as done:
            return None if done.value is None else np.asarray(done.value.as_numpy_array())
        raise RuntimeError("tifffile decodes in threads, although maxworkers is 1")


def _is_mappable(series: tifffile.TiffPageSeries) -> bool:
    return (
        series.dataoffset is not None
        and series.dtype is not None
        and series.keyframe.is_memmappable
        and series.transform is None
    )


def _mapped_chunks(series: tifffile.TiffPageSeries, axes: str) -> tuple[int, ...]:
    """Return the unit in which a mapped image is counted as read: some rows of one page."""
    rows = axes.index("y")
    row_bytes = math.prod(series.shape[rows + 1 :]) * series.dtype.itemsize
    count = max(1, min(series.shape[rows], _MAPPED_BYTES // row_bytes))
    return (*(1,) * rows, count, *series.shape[rows + 1 :])


def _split(location: Location) -> tuple[Location, int | None] | None:
    """Return the file and the number of its series that a location names, or None."""
    if _is_tiff(location):
        return location, None
    parent = location.parent
    if parent is not None and location.name.isdecimal() and _is_tiff(parent):
        return parent, int(location.name)
    return None


def _is_tiff(location: Location) -> bool:
    """Return whether a file is a TIFF: by its first bytes, or a remote one by its suffix."""
    if not location.is_local:
        return location.name.lower().endswith(SUFFIXES) and not is_pattern(location)
    try:
        return location.path.is_file() and read_head(location, 4) in _MAGIC
    except (OSError, VolumeError):  # `describe` of Zarr, which is tried last, says what is wrong
        return False


def _chosen_series(tiff: tifffile.TiffFile, number: int | None, file: Location) -> int:
    """Return the number of the series to read: the one named, or the only one."""
    listed = "; ".join(
        f"{index}: {shape_text(one.shape)} {one.dtype}{f' {one.name}' if one.name else ''}"
        for index, one in enumerate(tiff.series[:12])
    )
    if not tiff.series:
        raise VolumeError(f"{file} holds no image")
    if number is None:
        if len(tiff.series) > 1 and tiff.series[0].kind not in _SLIDES:
            raise VolumeError(
                f"{file} holds {len(tiff.series)} images of different sizes, types or names "
                f"({listed}): pass one of them, e.g. {file / '0'}"
            )
        return 0
    if number >= len(tiff.series):
        raise VolumeError(f"{file} has no image {number}; it has {listed}")
    return number


def _chosen_level(series: tifffile.TiffPageSeries, level: int | str | None, where: str) -> int:
    number = 0 if level is None else int(level) if str(level).strip().isdecimal() else -1
    if not 0 <= number < len(series.levels):
        shapes = ", ".join(
            f"{index} ({shape_text(one.shape)})" for index, one in enumerate(series.levels)
        )
        raise VolumeError(f"{where} has no level {level}; it has {shapes}")
    return number


def _axes(
    series: tifffile.TiffPageSeries, given: str | None, where: str
) -> tuple[str, tuple[str, ...]]:
    """Return the axes of a series, and a note where the file does not say what its planes are."""
    ndim = len(series.shape)
    if given is not None:
        return axes_of.checked_axes(given.strip().lower(), ndim=ndim, where=where), ()
    names = "".join(_LETTERS.get(axis, axis.lower()) for axis in series.axes)
    notes: tuple[str, ...] = ()
    if set(series.axes) & set("IQR"):
        notes = ("the file does not state the axis of its pages: assumed z; override with --axes",)
    elif series.axes == "SYX" and series.kind in _STATE_NO_AXES:
        notes = (
            f"the file stores {series.shape[0]} planes as colours of one image, and they are read "
            f"as channels; if they are slices, pass --axes {axes_of.as_slices(names)}",
        )
    return axes_of.checked_axes(names, ndim=ndim, where=where), notes


def _reading_note(
    series: tifffile.TiffPageSeries, chunks: tuple[int, ...], *, is_mapped: bool
) -> Iterator[str]:
    """Yield a note if a part of a page cannot be read without decoding the whole page."""
    keyframe = series.keyframe
    if is_mapped or keyframe.nbytes <= WHOLE_PAGE_BYTES or math.prod(chunks) < keyframe.size:
        return
    yield (
        f"each page is one compressed strip of {size_text(keyframe.nbytes)}: every read decodes a "
        "whole page; overtile convert makes it faster"
    )
