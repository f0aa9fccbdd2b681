"""Finds a volume and its labels: the levels that belong together, and where the labels lie."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from ..base.errors import VolumeError
from ..base.location import Location
from .companion import find_companion
from .fingerprint import check_labels
from .formats.axes import slices_advice
from .formats.ome_zarr.locate import locate
from .given_size import checked_sizes, with_voxel_size
from .known_formats import format_of
from .label_placement import PlacedLabels, place_labels
from .placement import has_other_voxels
from .volume import VolumeSource, find_volume


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadAs:
    """What to read of the volumes of a training, and how. Raises PlanError for a wrong size."""

    channel: Any = None
    level: int | str | None = None
    """Of the volume, by name or number. Of labels that are a pyramid too, the level of the same
    name is read, else the one of the same number, whichever has the volume's shape. Without it, a
    coarser level is used if the labels state its voxels (``place_labels``)."""
    time: int | None = None
    """Of the volume, and of labels that have a time axis."""
    axes: str | None = None
    """Of the volume, and of labels that do not state theirs."""
    voxel_size_um: tuple[float, ...] | None = None
    """Of the volume's finest level, whatever its file states. Labels may have the file's too."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "voxel_size_um", checked_sizes(self.voxel_size_um))


AS_STATED: Final = ReadAs()


def find_labelled(
    raw_location: Location, labels_location: Location, read: ReadAs = AS_STATED
) -> PlacedLabels:
    """Return a volume, its labels, and where they lie. Raises VolumeError if they do not match.

    Raises PlanError for a voxel size along other axes than the volume's.
    """
    level = read.level
    in_file = find_volume(
        raw_location, channel=read.channel, level=level, time=read.time, axes=read.axes
    )
    raw = with_voxel_size(in_file, read.voxel_size_um)
    found = _found(labels_location, _levels_of_labels(labels_location, raw, level), read)
    labels = next((one for one in found if one.shape_zyx == raw.shape_zyx), found[0])
    if labels.channel_count != 1:
        raise VolumeError(
            f"labels {labels_location} have {labels.channel_count} channels: expected one"
            f"{slices_advice(labels.axes)}"
        )
    is_chosen = level is not None or raw_location == raw.location
    are_of_file = has_other_voxels(labels, raw) and not has_other_voxels(labels, in_file)
    placed = place_labels(in_file if are_of_file else raw, labels, level_is_chosen=is_chosen)
    check_labels(placed.labels)
    return replace(placed, raw=with_voxel_size(placed.raw, read.voxel_size_um))


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
    labels: Location, levels: Sequence[int | str | None], read: ReadAs
) -> list[VolumeSource]:
    """Return the levels that exist, at least one. Raises VolumeError for the first otherwise."""
    found: list[VolumeSource] = []
    for level in levels:
        with suppress(VolumeError):
            found.append(find_companion(labels, level=level, time=read.time, axes=read.axes))
    return found or [find_companion(labels, level=levels[0], time=read.time, axes=read.axes)]
