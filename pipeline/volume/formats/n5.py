"""N5 datasets, alone or as levels ``s0``, ``s1`` … of a group; read through tensorstore.

``axes``, shapes and chunks are in reverse of N5's order x y z c, as z5py and Zarr show them.
"""

from __future__ import annotations

import re
from typing import Any, Final

from ...base.errors import VolumeError
from ...base.location import Location
from ...base.store_errors import one_line
from ...base.stores import list_names, read_node
from ...base.tensorstore_use import check_installed
from ...base.text import shape_text
from . import axes as axes_of
from .image import Readable, StoredImage
from .json_documents import Document, is_object, parsed, read_documents
from .n5_metadata import N5Level, axes_stated, listed_datasets, voxels_of
from .tensorstore_array import check_chunk, open_array

_NAME: Final = "attributes.json"
_FINEST: Final = f"s0/{_NAME}"
_LEVEL: Final = re.compile(r"s\d+")
_MOST_LEVELS: Final = 24
_SHOWN: Final = 12
_LARGEST: Final = 2**62
_DTYPES: Final = frozenset(
    ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")
)
_CODECS: Final = frozenset(("raw", "gzip", "bzip2", "xz", "blosc", "zstd"))


class N5Format:
    """Reads N5 through tensorstore."""

    name = "n5"

    def recognises(self, location: Location) -> bool:
        """Return whether the location is a dataset or group of N5, and not one of Zarr."""
        if location.is_local and not location.path.is_dir():
            return False
        found = read_documents(location, (_NAME, _FINEST))
        return any(map(is_object, found.values())) and not _is_zarr(location)

    def describe(
        self, location: Location, *, level: int | str | None, axes: str | None
    ) -> StoredImage:
        """Return the dataset at a level; reads metadata only."""
        check_installed(VolumeError, location)
        store, chosen = _located(location, level)
        where = store / chosen.name
        dtype, chunks = _checked(chosen, where)
        names, notes = _axes(chosen, axes, where)
        size, unit, origin, more = voxels_of(chosen)
        keys = ("dimensions", "blockSize", "dataType", "compression")
        return StoredImage(
            store=store,
            path=chosen.name,
            axes=names,
            shape=chosen.shape,
            dtype=dtype,
            chunks=chunks,
            voxel_size=size,
            unit=unit,
            translation=origin,
            image=store if chosen.names else None,
            level_names=chosen.names,
            description={"format": self.name, **{key: chosen.dataset.get(key) for key in keys}},
            axes_are_stated=not notes,
            notes=(*notes, *more),
        )

    def open(self, store: Location, path: str) -> Readable:
        """Open a dataset."""
        return open_array(store / path, {"driver": "n5"}, where=store / path)


def _is_zarr(location: Location) -> bool:
    try:
        return read_node(location) is not None
    except VolumeError:
        return False


def _is_dataset(document: Document) -> bool:
    return "dimensions" in document and "dataType" in document


def _located(location: Location, level: int | str | None) -> tuple[Location, N5Level]:
    """Return the group (or the dataset itself, with the name ``""``) and the level to read."""
    document = _document(location, _NAME)
    if not _is_dataset(document):
        levels = _levels(location, document)
        if not levels:
            raise VolumeError(f"{location} is a group of N5 without an image: {_advice(location)}")
        return location, _chosen(levels, level, location)
    above = location.parent
    levels = _levels_around(location)
    named = next((one for one in levels if one.name == location.name), None)
    if above is not None and named is not None:
        if level is not None and _chosen(levels, level, above) != named:
            raise VolumeError(
                f"{location} is one level already, but level {level} was requested; "
                f"pass {above} to select a level"
            )
        return above, named
    if level not in (None, 0, "0"):
        raise VolumeError(f"{location} is a plain dataset: it has no level {level}")
    alone = N5Level(name="", number=0, dataset=document, group={}, finest=document)
    return location, alone


def _levels_around(location: Location) -> list[N5Level]:
    """Return the levels of the group above a dataset that may be one of them."""
    above = location.parent
    document = _document(above, _NAME) if above is not None else {}
    if above is None or not (_LEVEL.fullmatch(location.name) or listed_datasets(document)):
        return []
    return _levels(above, document)


def _document(folder: Location, name: str) -> Document:
    """Return a document, empty if it does not exist."""
    text = read_documents(folder, (name,)).get(name)
    return {} if text is None else parsed(text, folder / name)


def _levels(group: Location, document: Document) -> list[N5Level]:
    """Return the levels of a group, the finest first: those it lists, else ``s0``, ``s1`` …"""
    listed = [str(one["path"]) for one in listed_datasets(document)]
    names = listed or [f"s{number}" for number in range(_MOST_LEVELS)]
    texts = read_documents(group, [f"{name}/{_NAME}" for name in names])
    found: list[tuple[str, Document]] = []
    for name in names:
        text = texts.get(f"{name}/{_NAME}")
        dataset = parsed(text, group / name / _NAME) if text is not None else {}
        if not _is_dataset(dataset):
            break
        found.append((name, dataset))
    return [
        N5Level(
            name=name,
            number=number,
            dataset=one,
            group=document,
            finest=found[0][1],
            names=tuple(name for name, _ in found),
        )
        for number, (name, one) in enumerate(found)
    ]


def _chosen(levels: list[N5Level], level: int | str | None, group: Location) -> N5Level:
    """Return a level by its name (``s1``), else by its number; None is the finest."""
    for one in levels:
        if one.name == level:
            return one
    number = 0 if level is None else int(level) if str(level).strip().isdecimal() else -1
    if not 0 <= number < len(levels):
        shapes = ", ".join(f"{one.number} ({one.name}, {_text(one)})" for one in levels)
        raise VolumeError(f"{group} has no level {level}; it has {shapes}")
    return levels[number]


def _text(level: N5Level) -> str:
    sizes = level.dataset["dimensions"]
    return shape_text(level.shape) if isinstance(sizes, list) else "damaged"


def _checked(level: N5Level, where: Location) -> tuple[str, tuple[int, ...]]:
    """Return dtype and chunks. Raises VolumeError for what tensorstore would not read."""
    document = level.dataset
    for key in ("dimensions", "blockSize"):
        sizes = document.get(key)
        if not isinstance(sizes, list) or not sizes or not all(map(_is_integer, sizes)):
            raise VolumeError(f"{where / _NAME} is damaged: {key} is not a list of integers")
    if len(document["dimensions"]) != len(document["blockSize"]):
        raise VolumeError(f"{where / _NAME} is damaged: dimensions and blockSize differ in length")
    if min(*document["dimensions"], *document["blockSize"]) < 1:
        raise VolumeError(f"{where} is empty: its shape is {shape_text(level.shape)}")
    dtype = str(document["dataType"]).lower()
    if dtype not in _DTYPES:
        raise VolumeError(
            f"{where} holds {one_line(dtype, limit=40)}, not grey values: expected integers of "
            "8 to 64 bits or floats of 32 or 64"
        )
    codec = _codec(document)
    if codec not in _CODECS:
        raise VolumeError(
            f"{where} is compressed as {one_line(codec, limit=40)}: expected "
            f"{', '.join(sorted(_CODECS))}; convert it"
        )
    chunks = tuple(map(int, reversed(document["blockSize"])))
    check_chunk(chunks, dtype, where)
    return dtype, chunks


def _codec(document: Document) -> str:
    compression = document.get("compression")
    return str(compression.get("type") if isinstance(compression, dict) else compression)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


def _axes(level: N5Level, given: str | None, where: Location) -> tuple[str, tuple[str, ...]]:
    ndim = len(level.shape)
    if given is not None:
        return axes_of.checked_axes(given.strip().lower(), ndim=ndim, where=str(where)), ()
    if (stated := axes_stated(level)) is not None:
        return axes_of.checked_axes(stated, ndim=ndim, where=str(where)), ()
    assumed, note = axes_of.assumed_axes(ndim, where=str(where))
    return assumed, () if ndim < 4 else (note,)  # x y z is N5's own order


def _advice(group: Location) -> str:
    found = _datasets_in(group, deep=4)
    if not found:
        return "no dataset was found in it; pass the path of one"
    more = " …" if len(found) > _SHOWN else ""
    return f"pass one of {', '.join(found[:_SHOWN])}{more}, e.g. {group / found[0]}"


def _datasets_in(group: Location, *, deep: int) -> list[str]:
    """Return paths of some groups with levels, and of datasets; empty if it cannot be listed."""
    found: list[str] = []
    names = [name for name in list_names(group) or () if name != _NAME]
    for name in names[:_SHOWN]:
        inside = read_documents(group / name, (_NAME, _FINEST))
        text = inside.get(_NAME)
        if _FINEST in inside or (is_object(text) and text is not None and b'"dimensions"' in text):
            found.append(name)
        elif deep > 1 and not re.fullmatch(r"\d+", name):
            found += [f"{name}/{path}" for path in _datasets_in(group / name, deep=deep - 1)]
        if len(found) > _SHOWN:
            break
    return found
