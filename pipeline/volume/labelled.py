"""Volumes with labels for training: boxes of both, mirrored past the edge as in prediction."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import VolumeError
from ..base.geometry import Box
from ..base.location import Location
from ..base.store_errors import explained
from ..base.text import shape_text
from .companion import find_companion
from .fingerprint import check_labels
from .formats.ome_zarr.locate import locate
from .intensity import Intensity
from .known_formats import format_of
from .mirror import read_mirrored
from .volume import VolumeSource, find_volume, open_volume


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledBox:
    """A box of a volume and of its labels, mirrored past the box's own edge.

    So a training box and a neighbouring validation box share no voxel. Small, picklable.
    """

    raw: VolumeSource
    labels: VolumeSource
    box: Box
    intensity: Intensity = field(default_factory=Intensity)

    @property
    def name(self) -> str:
        """The volume's location, and the slices if the box is a part of it."""
        if self.box == Box.of_shape(self.raw.shape_zyx):
            return self.volume_name
        return f"{self.volume_name} slices {self.box.start[0]}:{self.box.stop[0]}"

    @property
    def painted_classes(self) -> tuple[str, ...]:
        """The names of the network's classes that a person painted; none for any other labels."""
        mapping = self.labels.label_mapping
        return () if mapping is None else mapping.class_names

    @property
    def volume_name(self) -> str:
        """The volume's location, without passwords."""
        return str(self.raw.location)

    @property
    def volume_shape_zyx(self) -> tuple[int, int, int]:
        """Size of the whole volume in voxels."""
        return self.raw.shape_zyx

    @property
    def channel_count(self) -> int:
        """Channels of the grey values."""
        return self.raw.channel_count

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Size of the box in voxels."""
        z, y, x = self.box.shape
        return z, y, x

    @property
    def spacing_zyx(self) -> tuple[float, float, float]:
        """Size of a voxel."""
        return self.raw.voxel_size

    def read_raw(self, start: Sequence[int], stop: Sequence[int]) -> NDArray[np.float32]:
        """Return normalised grey values (c, z, y, x); the box's first voxel is 0."""
        return self.intensity.apply(
            read_mirrored(_Part(self.raw, self.box), Box(tuple(start), tuple(stop)))
        )

    def read_labels(self, start: Sequence[int], stop: Sequence[int]) -> NDArray[Any]:
        """Return labels (z, y, x) as stored."""
        return read_mirrored(_Part(self.labels, self.box), Box(tuple(start), tuple(stop)))[0]

    def count_bad_values(
        self, boxes: Sequence[tuple[Sequence[int], Sequence[int]]]
    ) -> tuple[int, int]:
        """Return how many grey values in some boxes are NaN or infinite, and how many there are.

        boxes: start and stop of each, inside the box. :meth:`read_raw` returns 0 for such values.
        Integers are not read: they are always finite.
        """

        def count(box: tuple[Sequence[int], Sequence[int]]) -> tuple[int, int]:
            stored = _Part(self.raw, self.box).read(Box(tuple(box[0]), tuple(box[1])))
            return stored.size - int(np.count_nonzero(np.isfinite(stored))), stored.size

        if np.dtype(self.raw.dtype).kind != "f":
            return 0, 0
        with ThreadPoolExecutor(4) as pool:
            counts = list(pool.map(count, boxes))
        return sum(bad for bad, _ in counts), sum(values for _, values in counts)


@dataclass(frozen=True, slots=True)
class _Part:
    """A box of a stored volume as :class:`ReadsBoxes`."""

    source: VolumeSource
    box: Box

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        z, y, x = self.box.shape
        return z, y, x

    def read(self, box: Box) -> NDArray[Any]:
        with explained(VolumeError, self.source.location):
            return open_volume(self.source).read(box.shifted(self.box.start))


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


def find_labelled(
    raw_location: Location,
    labels_location: Location,
    *,
    channel: Any = None,
    level: int | str | None = None,
    time: int | None = None,
    axes: str | None = None,
) -> tuple[VolumeSource, VolumeSource]:
    """Return a volume and its labels. Raises VolumeError if they do not match.

    level: of the volume, by name or number. Of labels that are a pyramid too, the level of the same
    name is read, else the one of the same number, whichever has the volume's shape.
    time, axes: of the volume, and of labels that have a time axis or do not state their axes.
    """
    raw = find_volume(raw_location, channel=channel, level=level, time=time, axes=axes)
    found = _found(labels_location, _levels_of_labels(labels_location, raw, level), time, axes)
    labels = next((one for one in found if one.shape_zyx == raw.shape_zyx), found[0])
    if labels.channel_count != 1:
        raise VolumeError(
            f"labels {labels_location} have {labels.channel_count} channels: expected one"
        )
    if labels.shape_zyx != raw.shape_zyx:
        raise VolumeError(
            f"labels {labels_location} are {shape_text(labels.shape_zyx)} voxels, but the volume "
            f"{raw_location} is {shape_text(raw.shape_zyx)}: pass the labels of this volume, or "
            "correct --axes"
        )
    check_labels(labels)
    return raw, labels
