"""Finds a volume and its labels: the levels that belong together, and where the labels lie."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ..base.errors import VolumeError
from ..base.location import Location
from .companion import find_companion
from .fingerprint import check_labels
from .formats.axes import slices_advice
from .formats.ome_zarr.locate import locate
from .known_formats import format_of
from .label_placement import PlacedLabels, place_labels
from .volume import VolumeSource, find_volume


def find_labelled(
    raw_location: Location,
    labels_location: Location,
    *,
    channel: Any = None,
    level: int | str | None = None,
    time: int | None = None,
    axes: str | None = None,
) -> PlacedLabels:
    """Return a volume, its labels, and where they lie. Raises VolumeError if they do not match.

    level: of the volume, by name or number. Of labels that are a pyramid too, the level of the same
    name is read, else the one of the same number, whichever has the volume's shape. Without it, a
    coarser level is used if the labels state its voxels (``place_labels``).
    time, axes: of the volume, and of labels that have a time axis or do not state their axes.
    """
    raw = find_volume(raw_location, channel=channel, level=level, time=time, axes=axes)
    found = _found(labels_location, _levels_of_labels(labels_location, raw, level), time, axes)
    labels = next((one for one in found if one.shape_zyx == raw.shape_zyx), found[0])
    if labels.channel_count != 1:
        raise VolumeError(
            f"labels {labels_location} have {labels.channel_count} channels: expected one"
            f"{slices_advice(labels.axes)}"
        )
    is_chosen = level is not None or raw_location == raw.location
    placed = place_labels(raw, labels, level_is_chosen=is_chosen)
    check_labels(placed.labels)
    return placed


def _levels_of_labels(
    labels: Location, raw: VolumeSource, level: int | str | None
) -> list[int | str | None]:
    """Return the levels of the labels that may belong to the volume's, the likeliest first."""
    if level is None:
        return [None]
    if format_of(labels).name != "zarr":
        return [level, None]
    pyramid = locate(labels).image
    if pyramid is None or len(pyramid.levels) < 2:
        return [None]
    names = [one.path for one in pyramid.levels]
    of_raw = locate(raw.store).image if raw.format == "zarr" else None
    number = [one.path for one in of_raw.levels].index(raw.path) if of_raw else 0
    by_name = [raw.path] if raw.path in names else []
    return [*by_name, min(number, len(names) - 1)]


def _found(
    labels: Location, levels: Sequence[int | str | None], time: int | None, axes: str | None
) -> list[VolumeSource]:
    """Return the levels that exist, at least one. Raises VolumeError for the first otherwise."""
    found: list[VolumeSource] = []
    for level in levels:
        with suppress(VolumeError):
            found.append(find_companion(labels, level=level, time=time, axes=axes))
    return found or [find_companion(labels, level=levels[0], time=time, axes=axes)]
