"""Voxel size, unit and origin in z y x, from a store's metadata."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .formats.image import ZYX, Units
from .locate import Located


def voxels_of(found: Located, axes: str) -> tuple[ZYX, Units, ZYX, tuple[str, ...]]:
    """Return voxel size, unit and origin in z y x, and a note if they are unusable."""
    if found.image is None or found.level is None:
        return _plain_voxels(found, axes)
    size = _zyx(found.level.scale, axes, otherwise=1.0)
    origin = _zyx(found.level.translation, axes, otherwise=0.0)
    units = found.image.units if found.image.units and len(found.image.units) == len(axes) else ()
    named = dict(zip(axes, units, strict=True)) if units else {}
    unit = (named.get("z"), named.get("y"), named.get("x"))
    if size is None or origin is None or not _usable(size):
        note = f"the stated voxel size {found.level.scale} is unusable: assumed 1"
        return (1.0, 1.0, 1.0), (None, None, None), (0.0, 0.0, 0.0), (note,)
    return size, unit, origin, ()


def _zyx(values: tuple[float, ...] | None, axes: str, *, otherwise: float) -> ZYX | None:
    if values is None:
        return otherwise, otherwise, otherwise
    if len(values) != len(axes):
        return None
    named = dict(zip(axes, values, strict=True))
    return named.get("z", otherwise), named.get("y", otherwise), named.get("x", otherwise)


def _plain_voxels(found: Located, axes: str) -> tuple[ZYX, Units, ZYX, tuple[str, ...]]:
    """Read ``voxel_size_nm`` or ``voxel_size_um``, one per spatial axis, of array or group."""
    origin = (0.0, 0.0, 0.0)
    for attributes in (found.node.attributes, found.above):
        for key, unit in (("voxel_size_um", "micrometer"), ("voxel_size_nm", "nanometer")):
            if key not in attributes:
                continue
            size = _plain_size(attributes[key], axes)
            if size is not None:
                return size, (unit if "z" in axes else None, unit, unit), origin, ()
            note = f"the stated {key} {attributes[key]} is unusable: assumed 1"
            return (1.0, 1.0, 1.0), (None, None, None), origin, (note,)
    return (1.0, 1.0, 1.0), (None, None, None), origin, ()


def _plain_size(stated: Any, axes: str) -> ZYX | None:
    spatial = [axis for axis in axes if axis in "zyx"]
    sizes = stated if isinstance(stated, list) else [stated] * len(spatial)
    if len(sizes) == 3 and len(spatial) == 2:  # a 2-D image that states z too
        spatial = ["z", *spatial]
    if not all(isinstance(size, int | float) for size in sizes) or not _usable(sizes):
        return None
    if len(sizes) != len(spatial):
        return None
    named = {axis: float(size) for axis, size in zip(spatial, sizes, strict=True)}
    return named.get("z", 1.0), named["y"], named["x"]


def _usable(sizes: Sequence[float]) -> bool:
    """Return whether all sizes are finite and above zero."""
    return all(math.isfinite(size) and size > 0 for size in sizes)
