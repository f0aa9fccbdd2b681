"""Writes a small image whole: readers find no image until all of it is there."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store

from ..base.errors import OutputError
from ..base.location import Location
from ..base.store_errors import explained
from ..base.stores import open_store
from .documents import built_in_memory, put_bytes, put_missing
from .guard import delete_output
from .image_spec import ImageSpec
from .ome_write import add_image, require_group

_ROOT: Final = "zarr.json"


def store_whole_image(
    output: Location, spec: ImageSpec, values: NDArray[Any], *, attributes: Mapping[str, Any]
) -> None:
    """Write an image of one level as OME-Zarr 0.5, in the place of nothing.

    spec: of the root. values: of its shape. attributes: more of the root's. What makes a group an
    image comes last; after an error, nothing is left. Raises OutputError.
    """

    def build(store: Store) -> None:
        add_image(store, spec, "0.5")
        zarr.open_array(store, path="0")[...] = values
        require_group(store, "", version="0.5").attrs.update(attributes)

    content = built_in_memory(build)
    group = built_in_memory(lambda store: require_group(store, "", version="0.5"))
    try:
        put_missing(output, {**content, **group})
        with explained(OutputError, output):
            put_bytes(open_store(output, read_only=False), _ROOT, content[_ROOT])
    except BaseException:
        with suppress(OutputError):
            delete_output(output)
        raise
