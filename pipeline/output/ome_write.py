"""Creates OME-Zarr images: 0.5 (Zarr v3, sharded), or 0.4 (Zarr v2) for tools that need it.

Every run that writes an output creates it; workers then open the arrays and write their shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import zarr
from zarr.abc.store import Store
from zarr.codecs import ZstdCodec

from ..base.errors import OutputError
from ..base.location import Location
from ..base.store_errors import explained
from ..base.stores import open_store
from .documents import built_in_memory, put_missing
from .image_spec import ImageSpec, Version, group_attributes, root_attributes

_ZSTD_LEVEL: Final = 3
_FORMATS: Final[dict[Version, Literal[2, 3]]] = {"0.5": 3, "0.4": 2}


def create_images(output: Location, specs: Sequence[ImageSpec], *, version: Version) -> None:
    """Create the groups, empty arrays and metadata of an output's images; without images, its root.

    Existing documents stay unchanged, so that several runs may create one output.
    Raises OutputError if an array exists with another layout.
    """

    def build(store: Store) -> None:
        root = require_group(store, "", version=version)
        root.attrs.update(root_attributes(specs, version=version))
        for spec in specs:
            add_image(store, spec, version)

    put_missing(output, built_in_memory(build))


def describe_again(output: Location, spec: ImageSpec, *, version: Version) -> None:
    """Write the metadata of one image of an existing output once more. Raises OutputError."""
    with explained(OutputError, output):
        group = require_group(open_store(output, read_only=False), spec.path, version=version)
        group.attrs.update(group_attributes(spec, version=version))


def require_group(store: Store, path: str, *, version: Version) -> zarr.Group:
    """Return the group at ``path``, created if missing."""
    return zarr.open_group(
        store, path=path, mode="a", zarr_format=_FORMATS[version], use_consolidated=False
    )


def require_folder(output: Location, path: str, *, version: Version) -> None:
    """Create a group for files beside the images, so that all of the output is Zarr."""
    documents = built_in_memory(lambda store: require_group(store, path, version=version))
    put_missing(output, {key: documents[key] for key in documents if key.startswith(f"{path}/")})


def list_label(output: Location, name: str, *, version: Version) -> None:
    """Add one label image to the listing of an existing output's labels. Raises OutputError.

    The listing is one document: where two runs write it at once, one may undo the other's change,
    so each reads it again.
    """
    with explained(OutputError, output):
        store = open_store(output, read_only=False)
        while name not in _listed(store, "labels", version):
            _list_label(store, "labels", name, version)


def add_image(store: Store, spec: ImageSpec, version: Version) -> None:
    """Create an image in a store: its groups, empty arrays and metadata."""
    parent, _, name = spec.path.rpartition("/")
    if parent:
        require_group(store, parent, version=version)
    group = require_group(store, spec.path, version=version)
    for number in range(len(spec.shapes)):
        _add_array(store, spec, number, version)
    group.attrs.update(group_attributes(spec, version=version))
    if parent and spec.is_label:
        _list_label(store, parent, name, version)


def _add_array(store: Store, spec: ImageSpec, number: int, version: Version) -> None:
    layouts: dict[Version, dict[str, Any]] = {
        "0.5": {
            "shards": spec.shards[number],
            "compressors": [ZstdCodec(level=_ZSTD_LEVEL)],
            "dimension_names": tuple(spec.axes),
        },
        "0.4": {
            "compressors": [{"id": "zstd", "level": _ZSTD_LEVEL}],
            "chunk_key_encoding": {"name": "v2", "separator": "/"},
        },
    }
    zarr.create_array(
        store,
        name=f"{spec.path}/{number}" if spec.path else str(number),
        shape=spec.shapes[number],
        chunks=spec.chunks[number],
        dtype=spec.dtype,
        fill_value=0,
        zarr_format=_FORMATS[version],
        **layouts[version],
    )


def _list_label(store: Store, parent: str, name: str, version: Version) -> None:
    """Add one label image to the listing of its group."""
    group = require_group(store, parent, version=version)
    stored: Any = group.attrs.get("ome", {}) if version == "0.5" else group.attrs.asdict()
    listed = [*stored.get("labels", []), name]
    labels = list(dict.fromkeys(listed))
    if version == "0.5":
        group.attrs["ome"] = {**stored, "version": version, "labels": labels}
    else:
        group.attrs["labels"] = labels


def _listed(store: Store, parent: str, version: Version) -> list[str]:
    """Return the names that the listing of a group of labels states."""
    attributes: Any = require_group(store, parent, version=version).attrs.asdict()
    names: list[str] = (attributes.get("ome", {}) if version == "0.5" else attributes).get(
        "labels", []
    )
    return names
