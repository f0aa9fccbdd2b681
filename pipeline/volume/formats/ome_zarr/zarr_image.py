"""Zarr v2 and v3 arrays and OME-Zarr images (0.1 to 0.6), in folders and object stores."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import zarr

from ....base.errors import VolumeError
from ....base.location import Location
from ....base.store_errors import explained
from ....base.stores import open_store
from ....base.text import brief
from .. import axes as axes_of
from ..extent import check_extent, whole_numbers
from ..image import Readable, StoredImage
from .locate import Located, locate
from .painted import painted_classes
from .tensorstore_reader import fastest_reader
from .voxel_size import voxels_of
from .zarr_chunks import missing_chunks

_DTYPES: Final = frozenset(
    f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
) | {"float16", "float32", "float64", "bool"}

EMPTY_FILTERS: Final = "Found an empty list of filters"
"""How Zarr's warning of ``"filters": []`` begins. Other writers of Zarr 2 have such arrays, which
read right: a user can do nothing, and every worker would print it."""
warnings.filterwarnings("ignore", EMPTY_FILTERS, UserWarning)


class ZarrFormat:
    """Reads Zarr arrays and OME-Zarr images."""

    name = "zarr"

    def recognises(self, location: Location) -> bool:
        """Return True: it comes last, and `describe` says what was found instead of Zarr."""
        return True

    def describe(
        self, location: Location, *, level: int | str | None, axes: str | None
    ) -> StoredImage:
        """Return the array at a level; reads metadata only."""
        found = locate(location, level=level)
        dtype = _checked_dtype(found)
        shape = _checked_shape(found)
        _check_codecs(found)
        names, notes = _axes(found, axes, ndim=len(shape))
        array = _open_array(found.store, found.path, found.node.zarr_format)
        sizes, units, origin, more = voxels_of(found, names)
        painted = painted_classes(found.node.attributes)
        missing = missing_chunks(array, found.store / found.path, names)
        return StoredImage(
            store=found.store,
            path=found.path,
            axes=names,
            shape=shape,
            dtype=dtype,
            chunks=array.chunks,
            channel_names=found.image.channel_names if found.image else (),
            voxel_size=sizes,
            unit=units,
            translation=origin,
            image=found.store if found.image else None,
            level_names=tuple(one.path for one in found.image.levels) if found.image else (),
            name=found.image.name if found.image else None,
            description=_description(found),
            axes_are_stated=not notes,
            painted_classes=painted,
            notes=(
                *(found.image.notes if found.image else ()),
                *found.notes,
                *notes,
                *more,
                *(() if painted else missing),  # of what is painted, most chunks are empty
            ),
        )

    def open(self, store: Location, path: str) -> Readable:
        """Open an array, for tensorstore where it is installed and can read it."""
        location = store / path
        folder = str(location) if store.is_local else None
        return fastest_reader(_open_array(store, path), folder)


def _open_array(store: Location, path: str, zarr_format: Any = None) -> zarr.Array[Any]:
    with explained(VolumeError, store / path):
        return zarr.open_array(open_store(store), path=path, mode="r", zarr_format=zarr_format)


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
    if not whole_numbers(shape):
        raise VolumeError(
            f"{found.where} is damaged: its metadata states the shape {brief(shape)}: expected a "
            "list of integers"
        )
    check_extent(shape, found.where)
    _check_chunks(found, ndim=len(shape))
    return tuple(shape)


def _check_chunks(found: Located, *, ndim: int) -> None:
    """Raise VolumeError for chunks by which no position could be divided."""
    chunks = found.node.document.get("chunks")
    if found.node.zarr_format == 3:
        grid = found.node.document.get("chunk_grid")
        inside = grid.get("configuration") if isinstance(grid, Mapping) else None
        chunks = inside.get("chunk_shape") if isinstance(inside, Mapping) else None
    if not whole_numbers(chunks) or len(chunks) != ndim or min(chunks, default=1) < 1:
        raise VolumeError(
            f"{found.where} is damaged: its metadata states the chunks {brief(chunks)}: expected "
            f"{ndim} integers above 0"
        )


def _check_codecs(found: Located) -> None:
    """Raise VolumeError for a codec that runs code of the file."""
    document = found.node.document
    stated = [document.get("compressor"), document.get("filters"), document.get("codecs")]
    if any(name.rpartition(".")[2] == "pickle" for name in _codec_names(stated)):
        raise VolumeError(
            f"{found.where} is stored with the codec pickle, which can run any code and is never "
            "opened: write the array again with another codec"
        )


def _codec_names(stated: Any) -> Iterator[str]:
    """Yield the names of codecs, those inside of shards too."""
    for codec in stated if isinstance(stated, list) else [stated]:
        if isinstance(codec, list):
            yield from _codec_names(codec)
        elif isinstance(codec, Mapping):
            yield from (str(codec.get(key)) for key in ("id", "name"))
            inner = codec.get("configuration")
            if isinstance(inner, Mapping):
                yield from _codec_names([inner.get("codecs"), inner.get("index_codecs")])
        elif isinstance(codec, str):
            yield codec


def _axes(found: Located, given: str | None, *, ndim: int) -> tuple[str, tuple[str, ...]]:
    """Return the axes of the stored array, and notes on assumptions. The user's axes come first."""
    if given is not None:
        return axes_of.checked_axes(given.strip().lower(), ndim=ndim, where=found.where), ()
    if found.image is not None:
        stated = axes_of.letters(found.image.axes)
        if found.image.axes and stated is None:
            raise axes_of.unknown_axes(found.image.axes, ndim=ndim, where=found.where)
        if stated is None and ndim == len(axes_of.KNOWN_AXES):  # 0.1 and 0.2: always t c z y x
            stated = axes_of.KNOWN_AXES
        if stated is not None:
            return axes_of.checked_axes(stated, ndim=ndim, where=found.where), ()
    node = found.node
    stated = axes_of.stated_axes(
        node.document, node.attributes, found.above, ndim=ndim, where=found.where
    )
    if stated is not None:
        return stated, ()
    assumed, note = axes_of.assumed_axes(ndim, where=found.where)
    return assumed, (note,)


def _description(found: Located) -> dict[str, Any]:
    """Return the array's metadata document; attributes do not identify an array."""
    return {
        key: value
        for key, value in found.node.document.items()
        if key not in ("attributes", "consolidated_metadata")
    }
