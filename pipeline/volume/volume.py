"""Volumes: one image array with named axes, local or remote, read as (c, z, y, x).

``find_volume`` reads metadata only. The ``VolumeSource`` that it returns is small and is sent to
the workers. ``open_volume`` opens it there, once per process.
"""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import zarr
from numpy.typing import NDArray

from ..base.errors import GeometryError, VolumeError
from ..base.geometry import Box
from ..base.location import Location
from ..base.store_errors import explained
from ..base.stores import open_store
from ..base.text import shape_text
from . import axes as axes_of
from .locate import Located, locate
from .selection import chosen_channels, chosen_time
from .tensorstore_reader import Readable, fastest_reader
from .voxel_size import ZYX, Units, voxels_of

_DTYPES: Final = frozenset(
    f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
) | {"float16", "float32", "float64"}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSource:
    """The location of a volume, and which part of it to read. Small, hashable, picklable.

    ``axes``, ``shape`` and ``dtype`` are the stored array's (byte order dropped), so ``shape`` may
    include t and c.
    """

    store: Location
    path: str
    axes: str
    shape: tuple[int, ...]
    dtype: str
    channels: tuple[int, ...] | None  # None: all of c, or there is no c
    time: int | None
    voxel_size: ZYX  # of this level, in `unit`; 1 if not stated
    unit: Units
    translation: ZYX
    chunk_shape_zyx: tuple[int, int, int]  # the unit of a read: inner chunks of shards
    metadata_digest: str  # identifies the input; contents are not hashed
    name: str | None
    notes: tuple[str, ...] = ()  # assumptions, one line each, for the user

    @property
    def location(self) -> Location:
        """The array itself, inside its store."""
        return self.store / self.path

    @property
    def spatial_axes(self) -> str:
        """The stored spatial axes, of ``zyx``; outputs have the same."""
        return axes_of.spatial_axes(self.axes)

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Voxels in z, y, x; z is 1 if there is no such axis."""
        return self._sizes_zyx(self.shape)

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
        """Return the voxels of ``box`` as (c, z, y, x), native byte order, stored dtype.

        box: (z, y, x), inside the volume, else GeometryError.
        """
        whole = self.shape_zyx
        if not Box.of_shape(whole).contains(box):
            raise GeometryError(f"box {box.start} to {box.stop} is not inside {shape_text(whole)}")
        selections = self._channel_selections()
        parts = [self._read_czyx(box, selection) for selection in selections]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

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
        stored = np.asarray(self._array[tuple(where[axis] for axis in self.source.axes)])
        axes = self.source.axes.replace("t", "")
        present = stored.transpose([axes.index(axis) for axis in "czyx" if axis in axes])
        missing = [index for index, axis in enumerate("czyx") if axis not in axes]
        czyx = np.expand_dims(present, missing)
        return np.ascontiguousarray(czyx, dtype=czyx.dtype.newbyteorder("="))


def open_volume(source: VolumeSource) -> Volume:
    """Open a volume for reading; the same one for every call in this process."""
    with _lock:
        return _opened(source)


@functools.lru_cache(maxsize=8)
def _opened(source: VolumeSource) -> Volume:
    array = _open_array(source.store, source.path)
    if tuple(array.shape) != source.shape or array.dtype.name != source.dtype:
        raise VolumeError(
            f"{source.location} is {shape_text(array.shape)} "
            f"{array.dtype.name} now, but was {shape_text(source.shape)} {source.dtype}: the input "
            "changed; start again"
        )
    folder = str(source.location) if source.store.is_local else None
    return Volume(source, fastest_reader(array, folder))


def _open_array(store: Location, path: str, zarr_format: Any = None) -> zarr.Array[Any]:
    with explained(VolumeError, store / path):
        return zarr.open_array(open_store(store), path=path, mode="r", zarr_format=zarr_format)


def find_volume(
    uri: str | Location,
    *,
    level: int | str | None = None,
    channel: int | str | Sequence[int | str] | None = None,
    time: int | None = None,
    axes: str | None = None,
) -> VolumeSource:
    """Return the volume at a location; reads metadata only.

    uri: an OME-Zarr image (0.1 to 0.5), one of its levels, or a plain Zarr array (v2, v3).
    level: number (0 is the finest) or name of the level's array.
    channel: number(s) or name(s) of the image's channels; None reads all.
    time: the time point, needed if there are several.
    axes: the stored axes, e.g. ``"czyx"``, if the store does not state them or is wrong.
    Raises VolumeError, one line, if the volume cannot be read as requested.
    """
    found = locate(Location.parse(uri), level=level)
    dtype = _checked_dtype(found)
    shape = _checked_shape(found)
    names, notes = _axes(found, axes, ndim=len(shape))
    array = _open_array(found.store, found.path, found.node.zarr_format)
    sizes, units, origin, more = voxels_of(found, names)
    counts = dict(zip(names, shape, strict=True))
    labels = found.image.channel_names if found.image else ()
    chunks = dict(zip(names, array.chunks, strict=True))
    return VolumeSource(
        store=found.store,
        path=found.path,
        axes=names,
        shape=shape,
        dtype=dtype,
        channels=chosen_channels(channel, counts.get("c"), labels=labels, where=found.where),
        time=chosen_time(time, counts.get("t"), where=found.where),
        voxel_size=sizes,
        unit=units,
        translation=origin,
        chunk_shape_zyx=(chunks.get("z", 1), chunks["y"], chunks["x"]),
        metadata_digest=_digest(found),
        name=found.image.name if found.image else None,
        notes=(*(found.image.notes if found.image else ()), *notes, *more),
    )


def _checked_dtype(found: Located) -> str:
    """Return the name of the stored dtype; VolumeError for dtypes that are not grey values."""
    stored = found.node.document.get("data_type" if found.node.zarr_format == 3 else "dtype")
    try:
        name = np.dtype(stored).newbyteorder("=").name if isinstance(stored, str) else ""
    except TypeError:
        name = ""
    if name not in _DTYPES:
        shown = stored if isinstance(stored, str) else json.dumps(stored)[:60]
        raise VolumeError(
            f"{found.where} holds {shown}, not grey values: expected integers of 8 to 64 bits "
            "or floats of 16 to 64"
        )
    return name


def _checked_shape(found: Located) -> tuple[int, ...]:
    shape = found.node.document.get("shape")
    if not isinstance(shape, list) or not all(isinstance(size, int) for size in shape):
        raise VolumeError(f"{found.where}: its metadata does not state a shape")
    if 0 in shape:
        raise VolumeError(f"{found.where} is empty: its shape is {shape_text(shape)}")
    return tuple(shape)


def _axes(found: Located, given: str | None, *, ndim: int) -> tuple[str, tuple[str, ...]]:
    """Return the axes of the stored array, and notes on assumptions. The user's axes come first."""
    if given is not None:
        return axes_of.checked_axes(given.strip().lower(), ndim=ndim, where=found.where), ()
    if found.image is not None:
        stated = axes_of.letters(found.image.axes)
        if found.image.axes and stated is None:
            raise axes_of.unknown_axes(found.image.axes, ndim=ndim, where=found.where)
        if stated is None:  # 0.1 and 0.2 are always t c z y x
            stated = axes_of.KNOWN_AXES[-ndim:]
        return axes_of.checked_axes(stated, ndim=ndim, where=found.where), ()
    node = found.node
    stated = axes_of.stated_axes(
        node.document, node.attributes, found.above, ndim=ndim, where=found.where
    )
    if stated is not None:
        return stated, ()
    assumed, note = axes_of.assumed_axes(ndim, where=found.where)
    return assumed, (note,)


def _digest(found: Located) -> str:
    """Return a digest of the array's location and metadata; its contents are not hashed."""
    described: Mapping[str, Any] = {
        key: value
        for key, value in found.node.document.items()
        if key not in ("attributes", "consolidated_metadata")
    }
    canonical = {"uri": found.store.identity, "path": found.path, "array": described}
    return hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()
