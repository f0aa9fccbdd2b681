"""Reads OME-Zarr metadata (0.1 to 0.5): the multiscale image of a group as a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..base.errors import VolumeError


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
    try:
        return _parse(ome)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise VolumeError(
            f"{where}: its OME-Zarr metadata is malformed ({type(error).__name__}: {error}); "
            "pass one array inside it instead, with --axes"
        ) from error


def _parse(ome: Mapping[str, Any]) -> Multiscale:
    images = ome["multiscales"]
    image = images[0]
    notes = [] if len(images) == 1 else [f"the group holds {len(images)} images: using the first"]
    axes = tuple(image["axes"]) if image.get("axes") else None
    common = _transformations(image.get("coordinateTransformations"))
    levels = tuple(
        Level(path=str(dataset["path"]).strip("/"), scale=scale, translation=translation)
        for dataset in image["datasets"]
        for scale, translation in [
            _after(_transformations(dataset.get("coordinateTransformations")), common)
        ]
    )
    if not levels:
        raise ValueError("it lists no datasets")
    units = tuple(axis.get("unit") if isinstance(axis, Mapping) else None for axis in axes or ())
    return Multiscale(
        name=image.get("name") or None,
        axes=axes,
        units=units or None,
        levels=levels,
        channel_names=_channel_names(ome.get("omero")),
        notes=tuple(notes),
    )


_Pair = tuple[tuple[float, ...] | None, tuple[float, ...] | None]


def _transformations(entries: object) -> _Pair:
    """Return scale and translation of a list of coordinate transformations (others are ignored)."""
    scale = translation = None
    for entry in entries if isinstance(entries, Sequence) else ():
        if "scale" in entry and entry.get("type") == "scale":
            scale = tuple(float(size) for size in entry["scale"])
        elif "translation" in entry and entry.get("type") == "translation":
            translation = tuple(float(offset) for offset in entry["translation"])
    return scale, translation


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
