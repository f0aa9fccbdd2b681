"""Reads OME-Zarr metadata (0.1 to 0.6): the multiscale image of a group as a value.

0.6 states axes in named coordinate systems. The levels' own transformations lead to one of them,
and only that one is used: further systems (an atlas, a stage) place the image elsewhere, and do not
change its voxel size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ....base.errors import VolumeError
from ....base.store_errors import one_line
from ....base.text import brief, shortened
from .ome_transformations import UnsupportedTransformationError, placement_of

NEWEST = (0, 6)
"""The newest version of OME-Zarr that is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One resolution: its array's path, and voxel size and origin per stored axis, if stated."""

    path: str
    scale: tuple[float, ...] | None
    translation: tuple[float, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiscale:
    """An image as its group states it. ``axes`` are as stored: str or mappings, or None."""

    name: str | None
    axes: tuple[Any, ...] | None
    units: tuple[str | None, ...] | None
    levels: tuple[Level, ...]
    channel_names: tuple[str, ...]
    notes: tuple[str, ...]


def ome_attributes(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the OME part of a group's attributes: under ``ome`` since 0.5, at the top before."""
    inside = attributes.get("ome")
    return inside if isinstance(inside, Mapping) else attributes


def parse_multiscale(attributes: Mapping[str, Any], *, where: str) -> Multiscale | None:
    """Return the (first) multiscale image of a group, or None if it has none.

    Raises VolumeError for metadata that cannot be understood.
    """
    ome = ome_attributes(attributes)
    if not ome.get("multiscales"):
        return None
    _check_version(ome, where)
    try:
        return _parse_systems(ome) if _has_systems(ome) else _parse(ome)
    except UnsupportedTransformationError as error:
        kind = one_line(str(error), limit=100)
        raise VolumeError(
            f"{where}: its OME-Zarr metadata places the image by {kind}, which overtile does not "
            "read: expected scale and translation; pass one array inside it instead, with --axes"
        ) from error
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        problem = one_line(f"{kind}{error}", limit=200)
        raise VolumeError(
            f"{where}: its OME-Zarr metadata is malformed ({problem}); "
            "pass one array inside it instead, with --axes"
        ) from error


def _check_version(ome: Mapping[str, Any], where: str) -> None:
    """Raise VolumeError for a version newer than those that are known."""
    images = ome["multiscales"]
    first = images[0] if isinstance(images, Sequence) and images else {}
    stated = ome.get("version") or (first.get("version") if isinstance(first, Mapping) else None)
    number = re.match(r"(\d{1,9})\.(\d{1,9})", str(stated))
    if number and tuple(map(int, number.groups())) > NEWEST:
        raise VolumeError(
            f"{where}: OME-Zarr {shortened(str(stated), most=20)} is not read: expected 0.1 to "
            f"{'.'.join(map(str, NEWEST))}; pass one array inside it instead, with --axes"
        )


def _has_systems(ome: Mapping[str, Any]) -> bool:
    images = ome["multiscales"]
    if not isinstance(images, list) or not isinstance(images[0], Mapping):
        raise ValueError(f"multiscales is {brief(images)}, not a list of images")
    return "coordinateSystems" in images[0]


def _parse_systems(ome: Mapping[str, Any]) -> Multiscale:
    """Return the image of metadata with coordinate systems (0.6)."""
    images = ome["multiscales"]
    image = images[0]
    systems = {system["name"]: system for system in image["coordinateSystems"]}
    if not systems:
        raise ValueError("it lists no coordinate systems")
    used = _output_of(image["datasets"][0]) or next(iter(systems))
    axes = tuple(systems[used]["axes"])
    names = [str(axis["name"]) for axis in axes]
    notes = [] if len(images) == 1 else [f"the group holds {len(images)} images: using the first"]
    if len(systems) > 1:
        notes.append(f"the image has {len(systems)} coordinate systems: using {used!r}")
    levels = []
    for dataset in image["datasets"]:
        entries = [
            entry
            for entry in dataset.get("coordinateTransformations") or ()
            if _name(entry.get("output")) in (None, used)
        ]
        placement = placement_of(entries, names)
        levels.append(
            Level(
                path=path_inside(dataset["path"]),
                scale=placement.scale,
                translation=placement.translation,
            )
        )
    return Multiscale(
        name=_text(image.get("name")),
        axes=axes,
        units=tuple(_text(axis.get("unit")) for axis in axes),
        levels=tuple(levels),
        channel_names=_channel_names(ome.get("omero")),
        notes=tuple(notes),
    )


def _output_of(dataset: Mapping[str, Any]) -> str | None:
    """Return the coordinate system that a level's first transformation leads to, if stated."""
    entries: Sequence[Mapping[str, Any]] = dataset.get("coordinateTransformations") or ({},)
    return _name(entries[0].get("output"))


def _name(system: Any) -> str | None:
    """Return the name of a coordinate system, stated as a text or as ``{"name": …}``."""
    name = system.get("name") if isinstance(system, Mapping) else system
    return name if isinstance(name, str) else None


def _parse(ome: Mapping[str, Any]) -> Multiscale:
    images = ome["multiscales"]
    image = images[0]
    notes = [] if len(images) == 1 else [f"the group holds {len(images)} images: using the first"]
    axes = tuple(image["axes"]) if image.get("axes") else None
    common = _transformations(image.get("coordinateTransformations"))
    unknown = _unknown_kinds(image)
    if unknown:
        notes.append(
            f"coordinate transformation {', '.join(unknown)} is ignored: OME-Zarr before 0.6 knows "
            "scale and translation only"
        )
    levels = tuple(
        Level(path=path_inside(dataset["path"]), scale=scale, translation=translation)
        for dataset in image["datasets"]
        for scale, translation in [
            _after(_transformations(dataset.get("coordinateTransformations")), common)
        ]
    )
    if not levels:
        raise ValueError("it lists no datasets")
    units = tuple(
        _text(axis.get("unit")) if isinstance(axis, Mapping) else None for axis in axes or ()
    )
    return Multiscale(
        name=_text(image.get("name")),
        axes=axes,
        units=units or None,
        levels=levels,
        channel_names=_channel_names(ome.get("omero")),
        notes=tuple(notes),
    )


def _text(value: Any) -> str | None:
    """Return a text that is not empty, and None for any other value."""
    return value if isinstance(value, str) and value else None


def path_inside(path: Any) -> str:
    """Return a path in a group. Raises ValueError for one that leads out of it."""
    if isinstance(path, int):  # some writers number the levels
        path = str(path)
    if not isinstance(path, str):
        raise ValueError(f"a path is {brief(path)}, not a text")
    parts = path.strip("/").split("/")
    if ".." in parts or "\0" in path or "://" in path:
        raise ValueError(f"the path {brief(path)} leads out of the group")
    return "/".join(part for part in parts if part not in ("", "."))


def _unknown_kinds(image: Mapping[str, Any]) -> list[str]:
    """Return the kinds of transformations that are ignored."""
    stated = [image, *image["datasets"]]
    entries: list[Mapping[str, Any]] = [
        entry for one in stated for entry in one.get("coordinateTransformations") or ()
    ]
    kinds = {
        f"{entry.get('type')} in an array" if "path" in entry else str(entry.get("type"))
        for entry in entries
    }
    return sorted(kinds - {"identity", "scale", "translation"})


_Pair = tuple[tuple[float, ...] | None, tuple[float, ...] | None]


def _transformations(entries: object) -> _Pair:
    """Return scale and translation of a list of coordinate transformations (others are ignored)."""
    scale = translation = None
    for entry in entries if isinstance(entries, Sequence) else ():
        if "scale" in entry and entry.get("type") == "scale":
            scale = _numbers(entry["scale"], "scale")
        elif "translation" in entry and entry.get("type") == "translation":
            translation = _numbers(entry["translation"], "translation")
    return scale, translation


def _numbers(values: Any, name: str) -> tuple[float, ...]:
    if not isinstance(values, list):
        raise ValueError(f"{name} is {brief(values)}, not a list of numbers")
    return tuple(float(value) for value in values)


def _after(dataset: _Pair, common: _Pair) -> _Pair:
    """Return the dataset's transformation followed by the one common to all levels.

    ``x * s + t``, then ``* S + T``: scale ``s S``, translation ``t S + T``.
    """
    (scale, translation), (common_scale, common_translation) = dataset, common
    known = next((v for v in (scale, translation, common_scale, common_translation) if v), None)
    if known is None:
        return None, None
    ones, zeros = (1.0,) * len(known), (0.0,) * len(known)
    outer = common_scale or ones
    moved = tuple(t * s for t, s in zip(translation or zeros, outer, strict=True))
    return (
        tuple(a * b for a, b in zip(scale or ones, outer, strict=True)),
        tuple(a + b for a, b in zip(moved, common_translation or zeros, strict=True)),
    )


def _channel_names(omero: object) -> tuple[str, ...]:
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(channels, Sequence):
        return ()
    return tuple(
        str(channel.get("label", "")) if isinstance(channel, Mapping) else ""
        for channel in channels
    )
