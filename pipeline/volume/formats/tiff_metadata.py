"""Voxel size and channel names of TIFF files: OME-XML, ImageJ, slides, plain resolution tags."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import tifffile

from .image import ZYX, Units
from .units import unit_named

_ONE: Final[ZYX] = (1.0, 1.0, 1.0)
_NO_UNIT: Final[Units] = (None, None, None)
_PRINT_DPI: Final = frozenset((1, 72, 75, 96, 100, 150, 200, 300, 600, 1200))
"""Resolutions per inch that image editors write; they say nothing about the specimen."""
_CM, _INCH = 3, 2

Voxels = tuple[ZYX, Units, tuple[str, ...]]


def voxels_of(tiff: tifffile.TiffFile, index: int, *, level: int) -> Voxels:
    """Return voxel size and unit (z, y, x) of a level, and notes.

    A coarser level's size follows from the ratio of the shapes.
    """
    try:
        size, unit, notes = _finest(tiff, index)
    except (TypeError, ValueError, ArithmeticError):  # any text may stand in the tags
        size, unit, notes = _ONE, _NO_UNIT, ("the stated voxel size is unusable: assumed 1",)
    series = tiff.series[index]
    whole, part = series.levels[0], series.levels[level]
    ratio = {axis: a / b for axis, a, b in zip(whole.axes, whole.shape, part.shape, strict=False)}
    z, y, x = (a * ratio.get(axis, 1.0) for a, axis in zip(size, "ZYX", strict=True))
    return (z, y, x), unit, notes


def _finest(tiff: tifffile.TiffFile, index: int) -> Voxels:
    if tiff.is_ome and (pixels := _ome_pixels(tiff, index)) is not None:
        return _ome_voxels(pixels)
    if tiff.is_imagej and tiff.imagej_metadata is not None:
        return _imagej_voxels(tiff.imagej_metadata, tiff.series[index].keyframe)
    if tiff.is_lsm and tiff.lsm_metadata is not None:
        sizes = [tiff.lsm_metadata.get(f"VoxelSize{axis}", 0) * 1e6 for axis in "ZYX"]
        return _checked(sizes, ("micrometer",) * 3)
    keyframe = tiff.series[index].keyframe
    if match := re.search(r"\|\s*MPP\s*=\s*([0-9.]+)", keyframe.description):  # Aperio
        mpp = float(match[1])
        return _checked((1.0, mpp, mpp), (None, "micrometer", "micrometer"))
    return _resolution_voxels(keyframe)


def _ome_pixels(tiff: tifffile.TiffFile, index: int) -> Mapping[str, Any] | None:
    """Return the Pixels element of one image of the OME-XML."""
    with suppress(Exception):  # malformed XML costs the voxel size, not the image
        images = tifffile.xml2dict(tiff.ome_metadata or "")["OME"]["Image"]
        images = images if isinstance(images, list) else [images]
        pixels = images[index]["Pixels"]
        return pixels if isinstance(pixels, Mapping) else None
    return None


def _ome_voxels(pixels: Mapping[str, Any]) -> Voxels:
    sizes, units = [], []
    for axis in "ZYX":
        stated = pixels.get(f"PhysicalSize{axis}")
        unit = unit_named(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        sizes.append(1.0 if stated is None else float(stated))
        units.append(None if stated is None else unit)
    z, y, x = units
    return _checked(sizes, (z, y, x))


def _imagej_voxels(stated: Mapping[str, Any], keyframe: tifffile.TiffPage) -> Voxels:
    """ImageJ: z from ``spacing``, y and x from the resolution tags in pixels per ``unit``."""
    unit = unit_named(stated.get("unit"))
    if unit is None:
        return _ONE, _NO_UNIT, ()
    across, down = _per_unit(keyframe)
    spacing = float(stated.get("spacing", 0) or 0)
    size = (spacing or 1.0, 1 / down if down else 1.0, 1 / across if across else 1.0)
    return _checked(size, (unit if spacing else None, unit, unit))


def _resolution_voxels(keyframe: tifffile.TiffPage) -> Voxels:
    across, down = _per_unit(keyframe)
    unit = keyframe.resolutionunit
    if not across or not down or unit not in (_CM, _INCH):
        return _ONE, _NO_UNIT, ()
    if unit == _INCH and round(across) in _PRINT_DPI:
        return _ONE, _NO_UNIT, ()
    um = 1e4 if unit == _CM else 25400.0
    return _checked((1.0, um / down, um / across), (None, "micrometer", "micrometer"))


def _per_unit(keyframe: tifffile.TiffPage) -> tuple[float, float]:
    """Return pixels per resolution unit along x and y; 0 where they are not stated."""
    across, down = keyframe.get_resolution()
    return (across, down) if math.isfinite(across) and math.isfinite(down) else (0.0, 0.0)


def _checked(size: Any, unit: Units) -> Voxels:
    z, y, x = map(float, size)
    if all(math.isfinite(one) and one > 0 for one in (z, y, x)):
        return (z, y, x), unit, ()
    note = f"the stated voxel size {z:g}, {y:g}, {x:g} is unusable: assumed 1"
    return _ONE, _NO_UNIT, (note,)


def channel_names(tiff: tifffile.TiffFile, index: int) -> tuple[str, ...]:
    """Return the names of the channels, empty where the file states none."""
    if not tiff.is_ome:
        return ()
    channels = (_ome_pixels(tiff, index) or {}).get("Channel", ())
    channels = [channels] if isinstance(channels, Mapping) else channels
    return tuple(str(one.get("Name", "")) for one in channels if isinstance(one, Mapping))
