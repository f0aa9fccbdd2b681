"""Creates OME-Zarr images: 0.5 (Zarr v3, sharded), or 0.4 (Zarr v2) for tools that need it.

One process creates; workers then open the arrays and write their shards.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import zarr
from zarr.abc.store import Store
from zarr.codecs import ZstdCodec

from ..base.errors import OutputError
from ..base.location import Location
from ..base.store_errors import explained
from ..base.stores import open_store
from .image_spec import ImageSpec, Version, group_attributes

_ZSTD_LEVEL: Final = 3
_FORMATS: Final[dict[Version, Literal[2, 3]]] = {"0.5": 3, "0.4": 2}


def create_root(output: Location, *, version: Version) -> None:
    """Make the group that holds everything; one that is there already stays as it is."""
    with explained(OutputError, output):
        _group(open_store(output, read_only=False), "", version)


def create_image(output: Location, spec: ImageSpec, *, version: Version) -> None:
    """Make groups, empty arrays and metadata of one image; the root is made where it is missing.

    What is there already and is the same stays, so that a creation that was cut short can be done
    again. Raises OutputError where an array is there and is another one.
    """
    image = output / spec.path
    with explained(OutputError, image):
        store = open_store(output, read_only=False)
        _group(store, "", version)
        parent, _, name = spec.path.rpartition("/")
        if parent:
            _group(store, parent, version)
        group = _group(store, spec.path, version)
        for number in range(len(spec.shapes)):
            _array(store, spec, number, version=version, where=image)
        group.attrs.update(group_attributes(spec, version=version))
        if parent and spec.is_label:
            _list_label(store, parent, name, version)


def _group(store: Store, path: str, version: Version) -> zarr.Group:
    return zarr.open_group(
        store, path=path, mode="a", zarr_format=_FORMATS[version], use_consolidated=False
    )


def _array(
    store: Store, spec: ImageSpec, number: int, *, version: Version, where: Location
) -> None:
    path = f"{spec.path}/{number}" if spec.path else str(number)
    chunk, shard = spec.chunks[number], spec.shards[number]
    layouts: dict[Version, dict[str, Any]] = {
        "0.5": {
            "shards": shard,
            "compressors": [ZstdCodec(level=_ZSTD_LEVEL)],
            "dimension_names": tuple(spec.axes),
        },
        "0.4": {
            "compressors": [{"id": "zstd", "level": _ZSTD_LEVEL}],
            "chunk_key_encoding": {"name": "v2", "separator": "/"},
        },
    }
    try:
        zarr.create_array(
            store,
            name=path,
            shape=spec.shapes[number],
            chunks=chunk,
            dtype=spec.dtype,
            fill_value=0,
            zarr_format=_FORMATS[version],
            **layouts[version],
        )
    except zarr.errors.ContainsArrayError as error:
        there = zarr.open_array(store, path=path, mode="r")
        wanted = (spec.shapes[number], chunk, shard if version == "0.5" else None, spec.dtype)
        if (there.shape, there.chunks, there.shards, there.dtype.name) != wanted:
            raise OutputError(
                f"{where}/{number} is there already and is another array: choose another output, "
                "or replace it with --overwrite"
            ) from error


def _list_label(store: Store, parent: str, name: str, version: Version) -> None:
    """Add one label image to the listing of its group."""
    group = _group(store, parent, version)
    stored: Any = group.attrs.get("ome", {}) if version == "0.5" else group.attrs.asdict()
    listed = [*stored.get("labels", []), name]
    labels = list(dict.fromkeys(listed))
    if version == "0.5":
        group.attrs["ome"] = {**stored, "version": version, "labels": labels}
    else:
        group.attrs["labels"] = labels
