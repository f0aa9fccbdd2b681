"""A stack of slices: a folder, or a pattern, of TIFF or PNG files with one plane each.

The files are sorted by the number in their names. A single PNG file is a stack of one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...base.errors import VolumeError
from ...base.location import Location
from ...base.text import shape_text
from . import axes as axes_of
from .chunked import ChunkedArray
from .files import is_pattern, matching, names_in
from .image import Readable, StoredImage
from .slice_file import SUFFIXES, Plane, plane_of, read_plane_chunk
from .slice_names import in_order

_ZARR: Final = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
_THREADS: Final = 8


@dataclass(frozen=True, slots=True)
class Stack:
    """The files of a stack in the order of z, and what all of them have in common."""

    files: tuple[Location, ...]
    plane: Plane
    notes: tuple[str, ...]


class SlicesFormat:
    """Reads folders and patterns of single-plane files."""

    name = "slices"

    def recognises(self, location: Location) -> bool:
        """Return whether the location is a pattern, a PNG file, or a folder of TIFF or PNG."""
        if is_pattern(location) or _is_png(location):
            return True
        if location.is_local and not location.path.is_dir():
            return False
        try:
            names = names_in(location)
        except VolumeError:  # `describe` of Zarr, which is tried last, says what is wrong
            return False
        return not set(names) & set(_ZARR) and any(map(_is_slice, names))

    def describe(
        self, location: Location, *, level: int | str | None, axes: str | None
    ) -> StoredImage:
        """Return the stack; reads the header of every file."""
        if level not in (None, 0, "0"):
            raise VolumeError(f"{location} is a stack of slices: it has no level {level}")
        stack = _stack(location)
        shape, chunks = _shape(stack), (1, *stack.plane.chunks)
        stated = f"z{stack.plane.axes}" if axes is None else axes.strip().lower()
        names = [file.name for file in stack.files]
        return StoredImage(
            store=location,
            path="",
            axes=axes_of.checked_axes(stated, ndim=len(shape), where=str(location)),
            shape=shape,
            dtype=stack.plane.dtype,
            chunks=chunks,
            voxel_size=stack.plane.voxel_size,
            unit=stack.plane.unit,
            description={
                "format": self.name,
                "shape": list(shape),
                "dtype": stack.plane.dtype,
                "files": hashlib.sha256("\n".join(names).encode()).hexdigest(),
            },
            notes=stack.notes,
        )

    def open(self, store: Location, path: str) -> Readable:
        """Open a stack: lists the files, reads the first header."""
        files, _ = in_order(_files(store), store)
        plane = plane_of(files[0])
        stack = Stack(tuple(files), plane, ())

        def read(index: tuple[int, ...]) -> NDArray[Any]:
            return read_plane_chunk(stack.files[index[0]], plane, index[1:])[None]

        return ChunkedArray(_shape(stack), (1, *plane.chunks), np.dtype(plane.dtype), read)


def _shape(stack: Stack) -> tuple[int, ...]:
    return (len(stack.files), *stack.plane.shape)


def _is_slice(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _is_png(location: Location) -> bool:
    return location.name.lower().endswith(".png") and not (
        location.is_local and location.path.is_dir()
    )


def _files(location: Location) -> list[Location]:
    """Return the files of a stack, unsorted. Raises VolumeError if there are none."""
    if _is_png(location) and not is_pattern(location):
        return [location]
    if is_pattern(location):
        files = [file for file in matching(location) if _is_slice(file.name)]
    else:
        files = [location / name for name in names_in(location) if _is_slice(name)]
    if not files:
        raise VolumeError(f"{location} matches no file that ends in {', '.join(SUFFIXES)}")
    kinds = {file.name.rpartition(".")[2].lower().replace("tiff", "tif") for file in files}
    if len(kinds) > 1:
        raise VolumeError(
            f"{location} holds slices of several formats ({', '.join(sorted(kinds))}): "
            f"pass a pattern, e.g. '{_folder(location) / f'*.{min(kinds)}'}'"
        )
    return files


def _folder(location: Location) -> Location:
    return (location.parent or location) if is_pattern(location) else location


def _stack(location: Location) -> Stack:
    """Return the stack at a location. Raises VolumeError for gaps and for planes that differ."""
    files, notes = in_order(_files(location), location)
    with ThreadPoolExecutor(_THREADS) as threads:
        planes = list(threads.map(plane_of, files))
    _check_equal(files, planes)
    return Stack(tuple(files), planes[0], notes)


def _check_equal(files: Sequence[Location], planes: Sequence[Plane]) -> None:
    first = planes[0]
    differing = [
        (file, plane)
        for file, plane in zip(files, planes, strict=True)
        if (plane.shape, plane.dtype) != (first.shape, first.dtype)
    ]
    if differing:
        file, plane = differing[0]
        raise VolumeError(
            f"{len(differing)} of {len(files)} slices differ from the first: {file.name} is "
            f"{shape_text(plane.shape)} {plane.dtype}, {files[0].name} is "
            f"{shape_text(first.shape)} {first.dtype}; all slices need one size and one type"
        )
