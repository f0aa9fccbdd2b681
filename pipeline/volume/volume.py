"""Volumes: one image array with named axes, local or remote, read as (c, z, y, x).

``find_volume`` reads metadata only. The ``VolumeSource`` that it returns is small and is sent to
the workers. ``open_volume`` opens it there, once per process.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ..base.errors import GeometryError, VolumeError
from ..base.geometry import Box
from ..base.location import Location
from ..base.redaction import clean_errors
from ..base.store_errors import explained
from ..base.text import shape_text
from .formats import axes as axes_of
from .formats.extent import check_extent
from .formats.image import ZYX, Readable, StoredImage, Units
from .known_formats import format_named, format_of
from .label_mapping import LabelMapping
from .label_values import as_integers, label_dtype
from .selection import chosen_channels, chosen_time, name_notes

LABELS: Final = "labels/"
"""Where an image lists its labels; the levels of an image of labels alone are there too."""

_lock = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSource:
    """The location of a volume, and which part of it to read. Small, hashable, picklable.

    ``axes``, ``shape`` and ``dtype`` are the stored array's (byte order dropped), so ``shape`` may
    include t and c.
    """

    store: Location
    path: str
    format: str = "zarr"
    axes: str
    shape: tuple[int, ...]
    dtype: str
    channels: tuple[int, ...] | None  # None: all of c, or there is no c
    time: int | None
    voxel_size: ZYX  # of this level, in `unit`, above 0; 1 if not stated
    direction: ZYX = (1.0, 1.0, 1.0)  # -1 along axes that are stored backwards
    unit: Units
    translation: ZYX
    chunk_shape_zyx: tuple[int, int, int]  # the unit of a read: inner chunks of shards
    image: Location | None = None  # whose levels `level_names` lists
    level_names: tuple[str, ...] = ()  # the finest first; empty if it has one level
    description: str  # the metadata of the array, as JSON
    name: str | None
    channel_names: tuple[str, ...] = ()  # of the channels that are read
    notes: tuple[str, ...] = ()  # assumptions, one line each, for the user
    holds_labels: bool = False  # bool and whole floats are then read as integers
    label_mapping: LabelMapping | None = None  # of painted labels, which are read as classes
    given_size_um: tuple[float, ...] | None = None  # stated by a person, of the finest level
    in_file: VolumeSource | None = None  # then: the volume with the voxel size of its file
    known_as: str | None = None  # place of the store in the record of a run, if it was another

    @property
    def location(self) -> Location:
        """The array itself, inside its store."""
        return self.store / self.path

    @property
    def identity(self) -> str:
        """The place of the store, as the record of a run states it."""
        return self.known_as or self.store.identity

    @property
    def metadata_digest(self) -> str:
        """Identifies the input: a digest of its place and metadata; its contents are not hashed."""
        described = json.loads(self.description)
        canonical = {"uri": self.identity, "path": self.path, "array": described}
        return hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()

    @property
    def read_dtype(self) -> str:
        """The dtype of what :meth:`Volume.read` returns."""
        if self.label_mapping is not None:
            return "int64"
        return label_dtype(self.dtype) if self.holds_labels else self.dtype

    @property
    def spatial_axes(self) -> str:
        """The stored spatial axes, of ``zyx``; outputs have the same."""
        return axes_of.spatial_axes(self.axes)

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Voxels in z, y, x; z is 1 if there is no such axis."""
        return self._sizes_zyx(self.shape)

    @property
    def step(self) -> ZYX:
        """Way from a voxel to the next one in z, y, x, in ``unit``; negative where backwards."""
        return _zyx(v * d for v, d in zip(self.voxel_size, self.direction, strict=True))

    def given_size_part(self) -> dict[str, list[float]]:
        """Return the voxel size as a part of a job's identity; nothing where it is the file's.

        The shapes of coarser levels depend on it, and the metadata of all.
        """
        return {} if self.given_size_um is None else {"voxel_size_um": [*self.given_size_um]}

    @property
    def channel_count(self) -> int:
        """Channels that a read returns."""
        if self.channels is not None:
            return len(self.channels)
        return self.shape[self.axes.index("c")] if "c" in self.axes else 1

    def _sizes_zyx(self, sizes: tuple[int, ...]) -> tuple[int, int, int]:
        z, y, x = (sizes[self.axes.index(axis)] if axis in self.axes else 1 for axis in "zyx")
        return z, y, x


class Volume:
    """An opened volume. Reading is thread-safe."""

    def __init__(self, source: VolumeSource, array: Readable) -> None:
        self.source = source
        self._array = array

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Voxels in z, y, x; z is 1 if there is no such axis."""
        return self.source.shape_zyx

    def read(self, box: Box) -> NDArray[Any]:
        """Return the voxels of ``box`` as (c, z, y, x), native byte order, ``read_dtype``.

        box: (z, y, x), inside the volume, else GeometryError. Raises LabelError for labels that are
        not whole numbers, and for painted ones that stand for no class.
        """
        whole = self.shape_zyx
        if not Box.of_shape(whole).contains(box):
            raise GeometryError(f"box {box.start} to {box.stop} is not inside {shape_text(whole)}")
        selections = self._channel_selections()
        parts = [self._read_czyx(box, selection) for selection in selections]
        values = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if (mapping := self.source.label_mapping) is not None:
            return mapping.classes(values, where=self.source.location)
        if self.source.holds_labels:
            return as_integers(values, where=self.source.location)
        return values

    def _channel_selections(self) -> list[slice]:
        """Return the selected channels as few slices of c, in the order of selection."""
        channels = self.source.channels
        if channels is None:
            return [slice(None)]
        if channels == tuple(range(channels[0], channels[0] + len(channels))):
            return [slice(channels[0], channels[-1] + 1)]
        return [slice(channel, channel + 1) for channel in channels]

    def _read_czyx(self, box: Box, channels: slice) -> NDArray[Any]:
        where: dict[str, slice | int] = dict(zip("zyx", box.slices, strict=True))
        where |= {"c": channels, "t": self.source.time or 0}
        with clean_errors():  # a worker logs them
            stored = np.asarray(self._array[tuple(where[axis] for axis in self.source.axes)])
        axes = self.source.axes.replace("t", "")
        present = stored.transpose([axes.index(axis) for axis in "czyx" if axis in axes])
        missing = [index for index, axis in enumerate("czyx") if axis not in axes]
        czyx = np.expand_dims(present, missing)
        return np.ascontiguousarray(czyx, dtype=czyx.dtype.newbyteorder("="))


def read_box(source: VolumeSource, box: Box) -> NDArray[Any]:
    """Return the voxels of a box as :meth:`Volume.read`; raises VolumeError, one line.

    For callers that have no ledger of failed blocks: codecs and stores raise errors of any kind.
    """
    with explained(VolumeError, source.location):
        volume = open_volume(source)
    with explained(VolumeError, source.location, part=f"voxels {_ranges(box)}"):
        return volume.read(box)


def _ranges(box: Box) -> str:
    """Return a box as ``--box`` takes it."""
    return ",".join(f"{a}:{b}" for a, b in zip(box.start, box.stop, strict=True))


def open_volume(source: VolumeSource) -> Volume:
    """Open a volume for reading; the same one for every call in this process."""
    with _lock:
        return _opened(source)


@functools.lru_cache(maxsize=8)
def _opened(source: VolumeSource) -> Volume:
    array = format_named(source.format).open(source.store, source.path)
    if tuple(array.shape) != source.shape or array.dtype.name != source.dtype:
        raise VolumeError(
            f"{source.location} is {shape_text(array.shape)} "
            f"{array.dtype.name} now, but was {shape_text(source.shape)} {source.dtype}: the input "
            "changed; start again"
        )
    return Volume(source, array)


def find_volume(
    uri: str | Location,
    *,
    level: int | str | None = None,
    channel: int | str | Sequence[int | str] | None = None,
    time: int | None = None,
    axes: str | None = None,
    holds: Literal["grey values", "labels", "anything"] = "grey values",
) -> VolumeSource:
    """Return the volume at a location; reads metadata only.

    uri: an image of any format in ``known_formats.py``: OME-Zarr, a plain Zarr array, TIFF, a
    folder or pattern of slices, …
    level: number (0 is the finest) or name of the level's array.
    channel: number(s) or name(s) of the image's channels; None reads all.
    time: the time point, needed if there are several.
    axes: the stored axes, e.g. ``"czyx"``, if the store does not state them or is wrong.
    holds: what the caller needs. Labels are read as integers; grey values are not bool.
    Raises VolumeError, one line, if the volume cannot be read as requested.
    """
    location = Location.parse(uri)
    image_format = format_of(location)
    with explained(VolumeError, location):  # a file may state anything
        image = image_format.describe(location, level=level, axes=axes)
        check_extent(image.shape, image.where)
    if holds == "grey values":
        _check_grey(image)
    labels = image.channel_names
    counts = dict(zip(image.axes, image.shape, strict=True))
    chunks = dict(zip(image.axes, image.chunks, strict=True))
    channels = chosen_channels(channel, counts.get("c"), labels=labels, where=image.where)
    return VolumeSource(
        format=image_format.name,
        store=image.store,
        path=image.path,
        axes=image.axes,
        shape=image.shape,
        dtype=image.dtype,
        channels=channels,
        time=chosen_time(time, counts.get("t"), where=image.where),
        voxel_size=_zyx(map(abs, image.voxel_size)),
        direction=_zyx(math.copysign(1.0, size) for size in image.voxel_size),
        unit=image.unit,
        translation=image.translation,
        image=image.image,
        level_names=image.level_names,
        chunk_shape_zyx=(chunks.get("z", 1), chunks["y"], chunks["x"]),
        description=json.dumps(image.description),
        name=image.name,
        channel_names=_names(labels, channels),
        notes=(*image.notes, *name_notes(channel, channels, counts.get("c", 1))),
        holds_labels=holds == "labels",
        label_mapping=_mapping(image) if holds == "labels" else None,
    )


def _names(labels: tuple[str, ...], channels: tuple[int, ...] | None) -> tuple[str, ...]:
    """Return the names of the chosen channels."""
    if channels is None:
        return labels
    return tuple(labels[number] for number in channels if number < len(labels))


def _mapping(image: StoredImage) -> LabelMapping | None:
    return LabelMapping(image.painted_classes) if image.painted_classes else None


def _check_grey(image: StoredImage) -> None:
    if image.image is not None and image.path.startswith(LABELS):
        raise VolumeError(
            f"{image.image} holds labels ({image.path}) and no grey values: expected an image"
        )
    if image.dtype == "bool":
        raise VolumeError(
            f"{image.where} holds bool, not grey values: expected integers of 8 to 64 bits or "
            "floats of 16 to 64; a mask can be used as labels or truth"
        )


def _zyx(values: Iterable[float]) -> ZYX:
    z, y, x = values
    return z, y, x
