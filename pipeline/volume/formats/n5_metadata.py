"""Voxel size, unit, origin and axes of N5 datasets, whose writers state them in different ways.

N5 itself defines none of them. Known here: ``resolution``, ``offset``, ``units`` and ``axes``
(Neuroglancer, Paintera), ``pixelResolution`` and ``scales`` (n5-viewer, BigDataViewer),
``downsamplingFactors`` (all of these), and ``transform`` (COSEM). Lists are in the order x y z,
those of a ``transform`` in that of its own axes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from . import axes as axes_of
from .image import ZYX, Units
from .json_documents import Document
from .units import unit_named

_LARGEST: Final = 1e300
_ORDERS: Final = frozenset(
    "".join(one) for axes in ("yx", "zyx") for one in itertools.permutations(axes)
)
_ONE: Final[ZYX] = (1.0, 1.0, 1.0)
_NONE: Final[Units] = (None, None, None)
_ZERO: Final[ZYX] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class N5Level:
    """One dataset, and the metadata around it: of its group and of the group's finest level."""

    name: str
    number: int
    dataset: Document
    group: Document
    finest: Document
    names: tuple[str, ...] = ()
    """Of all levels of the group, the finest first; empty for a dataset without a group."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes in reverse of N5's order: … z y x."""
        return tuple(map(int, reversed(self.dataset["dimensions"])))


Voxels = tuple[ZYX, Units, ZYX, tuple[str, ...]]


def voxels_of(level: N5Level) -> Voxels:
    """Return voxel size, unit and origin of a level in z y x, and a note if they are unusable."""
    voxels = _transformed(level) or _scaled(level)
    if all(math.isfinite(one) and one > 0 for one in voxels[0]) and all(
        math.isfinite(one) for one in voxels[2]
    ):
        return voxels
    note = (
        f"the stated voxel size {', '.join(f'{one:g}' for one in voxels[0])} is unusable: assumed 1"
    )
    return _ONE, _NONE, _ZERO, (note,)


def axes_stated(level: N5Level) -> str | None:
    """Return the axes in reverse of N5's order, or None where they are not stated."""
    for document in (level.dataset, level.group):
        names = document.get("axes")
        if isinstance(names, Sequence) and len(names) == len(level.shape):
            found = axes_of.letters(list(names))
            if found is not None:
                return found[::-1]
    return None


def _transformed(level: N5Level) -> Voxels | None:
    """Return the voxels that a ``transform`` states, of the dataset or of the group's list."""
    listed = [one for one in listed_datasets(level.group) if one.get("path") == level.name]
    for document in (level.dataset, *listed):
        if (found := _transform(document.get("transform"))) is not None:
            return found
    return None


def _transform(stated: Any) -> Voxels | None:
    """Return the voxels of one COSEM transform, None where it is not usable."""
    names = stated.get("axes") if isinstance(stated, Mapping) else None
    if not isinstance(names, list) or "".join(map(str, names)) not in _ORDERS:
        return None
    scale, moved, units = (stated.get(key) for key in ("scale", "translate", "units"))
    if not _are_numbers(scale, len(names)):
        return None
    size = {"z": 1.0, **dict(zip(names, map(float, scale), strict=True))}
    origin, unit = dict.fromkeys("zyx", 0.0), dict[str, str | None].fromkeys("zyx")
    if _are_numbers(moved, len(names)):
        origin.update(zip(names, map(float, moved), strict=True))
    if isinstance(units, list):
        unit.update(zip(names, map(unit_named, units), strict=False))
    return (
        (size["z"], size["y"], size["x"]),
        (unit["z"], unit["y"], unit["x"]),
        (origin["z"], origin["y"], origin["x"]),
        (),
    )


def _scaled(level: N5Level) -> Voxels:
    """Return the finest level's voxel size times the downsampling factors of this one."""
    size, unit = _finest_size(level)
    factors = _factors(level)
    offset = _zyx(level.group.get("offset")) or _zyx(level.finest.get("offset")) or _ZERO
    z, y, x = (s * f for s, f in zip(size, factors, strict=True))
    oz, oy, ox = (
        o + s * (f - 1) / 2 for o, s, f in zip(offset, size, factors, strict=True)
    )  # the centre of the first voxel, which covers `factors` voxels of the finest level
    return (z, y, x), unit, (oz, oy, ox), ()


def _finest_size(level: N5Level) -> tuple[ZYX, Units]:
    for document in (level.group, level.finest):
        stated = document.get("pixelResolution")
        if isinstance(stated, Mapping) and (size := _zyx(stated.get("dimensions"))):
            unit = unit_named(stated.get("unit"))
            return size, (unit, unit, unit)
        if size := _zyx(document.get("resolution")) or _zyx(stated):
            return size, _units(document)
    return _ONE, _NONE


def _units(document: Document) -> Units:
    units = document.get("units", document.get("unit"))
    named = [units] * 3 if isinstance(units, str) else units
    if not isinstance(named, list) or len(named) < 2:
        return _NONE
    x, y, z = (unit_named(one) for one in (*named, None)[:3])
    return z, y, x


def _factors(level: N5Level) -> ZYX:
    """Return how many voxels of the finest level one voxel covers along each axis."""
    if factors := _zyx(level.dataset.get("downsamplingFactors")):
        return factors
    for key in ("downsamplingFactors", "scales"):
        listed = level.group.get(key)
        at = listed[level.number : level.number + 1] if isinstance(listed, list) else []
        if at and (factors := _zyx(at[0])):
            return factors
    whole = level.finest.get("dimensions", ())[:3]
    part = level.dataset["dimensions"][:3]
    x, y, z = (*(max(1.0, round(a / b)) for a, b in zip(whole, part, strict=False)), 1.0, 1.0, 1.0)[
        :3
    ]
    return z, y, x


def listed_datasets(group: Document) -> list[Mapping[str, Any]]:
    """Return the datasets that the group's ``multiscales`` lists, the finest first."""
    images = group.get("multiscales")
    first = images[0] if isinstance(images, list) and images else None
    datasets = first.get("datasets") if isinstance(first, Mapping) else None
    if not isinstance(datasets, list):
        return []
    return [one for one in datasets if isinstance(one, Mapping) and one.get("path")]


def _zyx(xyz: Any) -> ZYX | None:
    """Return a list of two or three numbers x y (z), longer ones cut, in the order z y x."""
    if not isinstance(xyz, list) or len(xyz) < 2 or not _are_numbers(xyz, len(xyz)):
        return None
    x, y, z = (*map(float, xyz), 1.0)[:3]
    return z, y, x


def _are_numbers(values: Any, count: int) -> TypeGuard[list[float]]:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(one, int | float) and not isinstance(one, bool) for one in values)
        and all(abs(one) < _LARGEST for one in values)
    )
