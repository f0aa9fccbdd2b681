"""Voxel size, unit and origin in z y x, from a store's metadata.

A size below 0 is one: the axis is stored backwards, as a viewer draws it. A size that is 0 or no
finite number is replaced by 1, without its unit, and noted; the other axes keep theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

from ....base.text import brief
from ..image import ZYX, Units
from .locate import Located

Voxels: TypeAlias = tuple[ZYX, Units, ZYX, tuple[str, ...]]


def voxels_of(found: Located, axes: str) -> Voxels:
    """Return voxel size, unit and origin in z y x, and notes on unusable or backward axes."""
    if found.image is None or found.level is None:
        return _plain_voxels(found, axes)
    size = _zyx(found.level.scale, axes, otherwise=1.0)
    origin = _zyx(found.level.translation, axes, otherwise=0.0)
    units = found.image.units if found.image.units and len(found.image.units) == len(axes) else ()
    named = dict(zip(axes, units, strict=True)) if units else {}
    unit = (named.get("z"), named.get("y"), named.get("x"))
    if size is None or origin is None:
        stated = found.level.scale if size is None else found.level.translation
        note = f"the stated scale or translation {stated} does not fit the axes: assumed 1 and 0"
        return (1.0, 1.0, 1.0), (None, None, None), (0.0, 0.0, 0.0), (note,)
    return _checked(size, unit, origin, [axis for axis in "zyx" if axis in axes])


def _zyx(values: tuple[float, ...] | None, axes: str, *, otherwise: float) -> ZYX | None:
    if values is None:
        return otherwise, otherwise, otherwise
    if len(values) != len(axes):
        return None
    named = dict(zip(axes, values, strict=True))
    return named.get("z", otherwise), named.get("y", otherwise), named.get("x", otherwise)


def _checked(size: ZYX, unit: Units, origin: ZYX, axes: Sequence[str]) -> Voxels:
    """Return the values with what is unusable replaced, and notes."""
    stated = dict(zip("zyx", size, strict=True))
    bad = [axis for axis in axes if not _is_usable(stated[axis])]
    backward = [axis for axis in axes if axis not in bad and stated[axis] < 0]
    lost = [a for a, o in zip("zyx", origin, strict=True) if not math.isfinite(o)]
    notes = [
        f"the stated voxel size of {axis} ({stated[axis]:g}) is unusable: assumed 1" for axis in bad
    ]
    notes += [
        f"{axis} is stored backwards (scale {stated[axis]:g}): the output is, too"
        for axis in backward
    ]
    notes += [f"the stated origin along {axis} is unusable: assumed 0" for axis in lost]
    z, y, x = (1.0 if axis in bad else stated[axis] for axis in "zyx")
    uz, uy, ux = (None if a in bad else u for a, u in zip("zyx", unit, strict=True))
    oz, oy, ox = (0.0 if a in lost else o for a, o in zip("zyx", origin, strict=True))
    return (z, y, x), (uz, uy, ux), (oz, oy, ox), tuple(notes)


def _plain_voxels(found: Located, axes: str) -> Voxels:
    """Read ``voxel_size_nm`` or ``voxel_size_um``, one per spatial axis, of array or group."""
    origin = (0.0, 0.0, 0.0)
    spatial = [axis for axis in "zyx" if axis in axes]
    for attributes in (found.node.attributes, found.above):
        for key, unit in (("voxel_size_um", "micrometer"), ("voxel_size_nm", "nanometer")):
            if key not in attributes:
                continue
            size = _plain_size(attributes[key], axes)
            if size is not None:
                return _checked(size, (unit if "z" in axes else None, unit, unit), origin, spatial)
            note = f"the stated {key} {brief(attributes[key])} is unusable: assumed 1"
            return (1.0, 1.0, 1.0), (None, None, None), origin, (note,)
    return (1.0, 1.0, 1.0), (None, None, None), origin, ()


def _plain_size(stated: Any, axes: str) -> ZYX | None:
    spatial = [axis for axis in axes if axis in "zyx"]
    sizes = stated if isinstance(stated, list) else [stated] * len(spatial)
    if len(sizes) == 3 and len(spatial) == 2:  # a 2-D image that states z too
        spatial = ["z", *spatial]
    if len(sizes) != len(spatial) or not all(isinstance(size, int | float) for size in sizes):
        return None
    try:
        named = {axis: float(size) for axis, size in zip(spatial, sizes, strict=True)}
    except OverflowError:  # an integer of hundreds of digits
        return None
    z, y, x = named.get("z", 1.0), named["y"], named["x"]
    return (z, y, x) if any(map(_is_usable, (y, x))) else None


def _is_usable(size: float) -> bool:
    return math.isfinite(size) and size != 0
