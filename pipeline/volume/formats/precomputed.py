"""Neuroglancer Precomputed volumes, images and segmentations; read through tensorstore.

``axes`` are c z y x: the reverse of Neuroglancer's x y z channel, and the order on disk. A level is
one of its *scales*, by number or by key. The location of a scale names its level too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from ...base.errors import VolumeError
from ...base.location import Location
from ...base.store_errors import one_line
from ...base.tensorstore_use import check_installed
from ...base.text import shape_text
from . import axes as axes_of
from .gzipped_chunks import GZIP, OTHERS, gzipped_array, suffix_of_chunks
from .image import ZYX, Readable, StoredImage
from .json_documents import Document, is_object, parsed, read_documents
from .tensorstore_array import check_chunk, open_array

_NAME: Final = "info"
_AXES: Final = "czyx"
_DTYPES: Final = frozenset(
    ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32")
)
_ENCODINGS: Final = frozenset(("raw", "jpeg", "png", "compressed_segmentation"))
_LARGEST: Final = 2**62
_NANOMETERS: Final = ("nanometer", "nanometer", "nanometer")


class PrecomputedFormat:
    """Reads Neuroglancer Precomputed through tensorstore."""

    name = "precomputed"

    def recognises(self, location: Location) -> bool:
        """Return whether the location is a volume, or a scale of one."""
        return _split(location) is not None

    def describe(
        self, location: Location, *, level: int | str | None, axes: str | None
    ) -> StoredImage:
        """Return one scale; reads metadata only."""
        check_installed(VolumeError, location)
        store, key = _split(location) or (location, None)
        info = parsed(read_documents(store, (_NAME,)).get(_NAME, b""), store / _NAME)
        scales = _scales(info, store)
        scale = _chosen(scales, level, store) if key is None else _named(scales, key, level, store)
        where = store / scale["key"]
        dtype = _checked_dtype(info, scale, where)
        shape, chunks = (_czyx(scale[name], info) for name in ("size", "chunk"))
        check_chunk(chunks, dtype, where)
        _check_files(scale, where)
        stated = _AXES if axes is None else axes.strip().lower()
        size, origin, notes = _voxels(scale, scales[0])
        return StoredImage(
            store=store,
            path=scale["key"],
            axes=axes_of.checked_axes(stated, ndim=len(_AXES), where=str(where)),
            shape=shape,
            dtype=dtype,
            chunks=chunks,
            voxel_size=size,
            unit=_NANOMETERS,
            translation=origin,
            image=store,
            level_names=tuple(one["key"] for one in scales),
            description={"format": self.name, "dtype": dtype, "channels": shape[0], **scale},
            notes=(*notes, *_note_if_empty(where)),
        )

    def open(self, store: Location, path: str) -> Readable:
        """Open one scale."""
        if suffix_of_chunks(store / path) == GZIP:
            info = parsed(read_documents(store, (_NAME,)).get(_NAME, b""), store / _NAME)
            return gzipped_array(store, info, path, store / path)
        settings = {"driver": "neuroglancer_precomputed", "scale_metadata": {"key": path}}
        return open_array(store, settings, where=store / path)


def _split(location: Location) -> tuple[Location, str | None] | None:
    """Return the volume, and the key of its scale if the location names one; None if neither."""
    if location.is_local and not location.path.is_dir():
        return None
    if _is_info(read_documents(location, (_NAME,)).get(_NAME)):
        return location, None
    above = location.parent
    text = read_documents(above, (_NAME,)).get(_NAME) if above is not None else None
    if above is None or text is None or not _is_info(text):
        return None
    with suppress(VolumeError):
        if any(one["key"] == location.name for one in _scales(parsed(text, above), above)):
            return above, location.name
    return None


def _is_info(text: bytes | None) -> bool:
    """Return whether a document describes a volume, damaged or not: other tools write ``info``."""
    return is_object(text) and text is not None and b'"scales"' in text


def _scales(info: Document, where: Location) -> list[dict[str, Any]]:
    """Return the scales, the finest first, with one chunk shape each. Raises VolumeError."""
    scales = info.get("scales")
    if not isinstance(scales, list) or not scales:
        raise VolumeError(f"{where / _NAME} lists no scales: it is not a volume of Neuroglancer")
    return [_scale(one, where) for one in scales]


def _scale(stated: Any, where: Location) -> dict[str, Any]:
    scale = dict(stated) if isinstance(stated, Mapping) else {}
    chunks = scale.pop("chunk_sizes", None)
    scale["chunk"] = chunks[0] if isinstance(chunks, list) and chunks else None
    scale.setdefault("voxel_offset", [0, 0, 0])
    for name in ("size", "chunk", "voxel_offset", "resolution"):
        is_right = _is_number if name == "resolution" else _is_integer
        values = scale.get(name)
        if not isinstance(values, list) or len(values) != 3 or not all(map(is_right, values)):
            raise VolumeError(
                f"{where / _NAME} is damaged: {'chunk_sizes' if name == 'chunk' else name} of a "
                f"scale is not three {'numbers' if name == 'resolution' else 'integers'}"
            )
    if not isinstance(scale.get("key"), str):
        raise VolumeError(f"{where / _NAME} is damaged: a scale has no key")
    return scale


def _shown(value: Any) -> str:
    """Return a value of a document for a message."""
    return one_line(str(value), limit=40)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


def _is_number(value: Any) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def _chosen(
    scales: list[dict[str, Any]], level: int | str | None, where: Location
) -> dict[str, Any]:
    """Return a scale by its key, else by its number; None is the finest."""
    for scale in scales:
        if scale["key"] == level:
            return scale
    number = 0 if level is None else int(level) if str(level).strip().isdecimal() else -1
    if not 0 <= number < len(scales):
        shapes = ", ".join(
            f"{index} ({one['key']}, {shape_text(one['size'][::-1])})"
            for index, one in enumerate(scales)
        )
        raise VolumeError(f"{where} has no level {level}; it has {shapes}")
    return scales[number]


def _named(
    scales: list[dict[str, Any]], key: str, level: int | str | None, where: Location
) -> dict[str, Any]:
    named = _chosen(scales, key, where)
    if level is not None and _chosen(scales, level, where) != named:
        raise VolumeError(
            f"{where / key} is one level already, but level {level} was requested; "
            f"pass {where} to select a level"
        )
    return named


def _czyx(xyz: list[int], info: Document) -> tuple[int, ...]:
    """Return sizes x y z in the order c z y x: a chunk holds all channels."""
    return (int(info.get("num_channels", 1)), *(int(one) for one in reversed(xyz)))


def _checked_dtype(info: Document, scale: Document, where: Location) -> str:
    """Return the dtype. Raises VolumeError for what tensorstore would not read."""
    dtype = str(info.get("data_type")).lower()
    if dtype not in _DTYPES:
        raise VolumeError(
            f"{where} holds {_shown(info.get('data_type'))}, not grey values: expected integers "
            "of 8 to 64 bits or float32"
        )
    if str(scale.get("encoding")) not in _ENCODINGS:
        raise VolumeError(
            f"{where} is encoded as {_shown(scale.get('encoding'))}: expected "
            f"{', '.join(sorted(_ENCODINGS))}; convert it"
        )
    channels = info.get("num_channels", 1)
    if not _is_integer(channels):
        raise VolumeError(f"{where} has {_shown(channels)} channels: expected an integer")
    if min(*scale["size"], *scale["chunk"], channels) < 1:
        raise VolumeError(f"{where} is empty: its shape is {shape_text(scale['size'][::-1])}")
    return dtype


def _check_files(scale: Document, where: Location) -> None:
    """Raise VolumeError if chunks are files of an unknown kind, which would read as missing."""
    suffix = "" if scale.get("sharding") else suffix_of_chunks(where)
    if suffix in OTHERS:
        raise VolumeError(
            f"{where} holds chunks compressed as {suffix} files: expected plain or .gz files; "
            "decompress them"
        )


def _note_if_empty(where: Location) -> Iterator[str]:
    if where.is_local and not where.path.is_dir():
        yield f"no chunk of {where.name} exists: every voxel is 0"


def _voxels(scale: Document, finest: Document) -> tuple[ZYX, ZYX, tuple[str, ...]]:
    """Return voxel size and origin in nm, z y x, and a note if they are unusable.

    Neuroglancer's ``voxel_offset`` places the corner of the first voxel. The origin is its centre,
    counted from the centre of the finest level's voxel at 0.
    """
    size = [float(one) for one in reversed(scale["resolution"])]
    fine = [float(one) for one in reversed(finest["resolution"])]
    if min(*size, *fine) <= 0:
        note = f"the stated resolution {scale['resolution']} is unusable: assumed 1 nm"
        return (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (note,)
    offset = reversed(scale["voxel_offset"])
    z, y, x = (s * (o + 0.5) - f / 2 for s, f, o in zip(size, fine, offset, strict=True))
    return (size[0], size[1], size[2]), (z, y, x), ()
