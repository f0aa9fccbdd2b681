"""Copies the files of one cell from another output, with their digest."""

from __future__ import annotations

from typing import Any

from zarr.core.buffer import default_buffer_prototype

from ..base.errors import VolumeError
from ..base.geometry import Box, Shape
from ..base.location import Location
from ..base.store_errors import explained
from ..base.stores import open_store, wait_for
from .cells import CellDigest, files_in, key_of, written_cell


def copied_cell(
    array: Any, path: str, *, box: Box, size: Shape, source: Location, source_path: str
) -> CellDigest:
    """Copy the files of a cell to an array of ``open_shards``; return the digest of what is copied.

    source, source_path: the other output and the path of an array of the same layout in it; a file
    that is absent there (all of its voxels are 0) is removed here. Raises VolumeError where the
    source cannot be read.
    """
    store = open_store(source)
    for name, _ in files_in(array, box):
        with explained(VolumeError, source):
            request = store.get(f"{source_path}/{name}", default_buffer_prototype())
            found = wait_for(request, timeout_s=None)
        key = key_of(array, name)
        if found is None:
            wait_for(array.store.delete(key), timeout_s=None)
        else:
            wait_for(array.store.set(key, found), timeout_s=None)
    return written_cell(array, path, box=box, size=size)
