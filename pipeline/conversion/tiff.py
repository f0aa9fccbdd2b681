"""Writes an image as one TIFF file, some planes at a time."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import tifffile
from numpy.typing import NDArray

from ..base.errors import OutputError
from ..base.geometry import Box
from ..base.location import Location
from ..base.store_errors import explained
from ..base.text import size_text
from ..output.atomic_file import partial_path
from ..output.guard import check_apart
from ..volume.fingerprint import read_sample
from ..volume.volume import VolumeSource, read_box
from .tiff_layout import Range, TiffLayout, needs_range, plan_layout

SLAB_BYTES: Final = 2**28
"""Of planes that are read at once, unless one plane is larger."""
PLANE_BYTES: Final = 2**31
"""Of one plane, all channels, at most."""
_OME_ENDINGS: Final = (".ome.tif", ".ome.tiff")

OnPlanes = Callable[[int, int], Any]
"""Called after each read with the planes (z) that are done, and all of them."""


def export_tiff(
    source: VolumeSource,
    target: Location,
    *,
    overwrite: bool = False,
    on_planes: OnPlanes | None = None,
) -> TiffLayout:
    """Write an image as TIFF; return what was written. All values are kept.

    A name that ends in .ome.tif makes it an OME-TIFF; see tiff_layout.py. The file appears when it
    is complete. Memory: some planes, 256 MiB or one plane with all channels. Raises OutputError for
    a target that cannot be written, VolumeError for an image that cannot be read or shown.
    """
    _check_target(target, source.store, overwrite=overwrite)
    slabs = list(_slabs(source))
    layout = plan_layout(
        source,
        is_ome=target.name.lower().endswith(_OME_ENDINGS),
        found=_found_range(source, slabs) if needs_range(source) else None,
        shown=_shown(source),
    )
    unfinished = partial_path(target.path)
    _check_room(target, layout)
    try:
        with explained(OutputError, target):
            planes = _planes(source, slabs, layout.dtype, on_planes)
            tifffile.imwrite(unfinished, planes, **layout.arguments())
            os.replace(unfinished, target.path)
    finally:
        unfinished.unlink(missing_ok=True)
    return layout


def _check_target(target: Location, source: Location, *, overwrite: bool) -> None:
    """Raise OutputError for a file that cannot be written, or is the input."""
    if not target.is_local:
        raise OutputError(f"{target}: TIFF is written to local files only; pass a path")
    check_apart(target, source)
    path = target.path
    if path.is_dir():
        raise OutputError(f"{target} is a folder: pass another name, or --to ome-zarr")
    if path.exists() and not overwrite:
        raise OutputError(f"{target} exists: choose another name, or replace it with --overwrite")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{target} cannot be written: choose a file in a writable folder")


def _check_room(target: Location, layout: TiffLayout) -> None:
    free = shutil.disk_usage(target.path.parent).free
    if layout.pixel_bytes > free:
        raise OutputError(
            f"{target} needs {size_text(layout.pixel_bytes)} and {size_text(free)} are free: make "
            "room, or choose a coarser level with --level"
        )


def _slabs(source: VolumeSource) -> Iterator[Box]:
    """Yield boxes of whole planes, in order: as deep as the stored chunks where these fit."""
    depth, rows, columns = source.shape_zyx
    plane = rows * columns * source.channel_count * np.dtype(source.dtype).itemsize
    if plane > PLANE_BYTES:
        raise OutputError(
            f"a plane of {source.location} has {size_text(plane)}: TIFF is written plane by plane, "
            f"of {size_text(PLANE_BYTES)} at most; choose a coarser level with --level"
        )
    step = source.chunk_shape_zyx[0]
    step *= max(1, math.ceil(32 / step))  # few reads of thin chunks
    while step > 1 and step * plane > SLAB_BYTES:
        step = -(-step // 2)
    for start in range(0, depth, step):
        yield Box((start, 0, 0), (min(start + step, depth), rows, columns))


def _found_range(source: VolumeSource, slabs: list[Box]) -> Range:
    """Return the least and the largest value; reads everything."""
    lows, highs = [], []
    for box in slabs:
        values = read_box(source, box)
        lows.append(int(values.min()))
        highs.append(int(values.max()))
    return min(lows), max(highs)


def _shown(source: VolumeSource) -> tuple[float, float] | None:
    """Return the range of a sample: labels of 1 and 2 are black from 0 to 255."""
    values = read_sample(source).values
    finite = values[np.isfinite(values)]
    if not finite.size or finite.min() == finite.max():
        return None
    return float(finite.min()), float(finite.max())


def _planes(
    source: VolumeSource, slabs: list[Box], dtype: str, on_planes: OnPlanes | None
) -> Iterator[NDArray[Any]]:
    """Yield every page: of each z the channels."""
    for box in slabs:
        values = read_box(source, box).astype(dtype, copy=False)
        for z in range(values.shape[1]):
            for channel in values:
                yield channel[z]
        if on_planes is not None:
            on_planes(box.stop[0], source.shape_zyx[0])
