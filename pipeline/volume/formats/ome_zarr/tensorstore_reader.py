"""Reads local arrays with tensorstore if it is installed: the same voxels in less time.

It is optional (``pip install 'overtile[fast]'``). zarr reads what tensorstore cannot, or raises the
error. zarr also reads arrays of codecs whose damage tensorstore does not detect (gzip, zlib and bz2
without their end), arrays of chunks so large that tensorstore would run out of memory and end the
process, and all arrays in a process forked from one that has used tensorstore.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ....base.tensorstore_use import is_forked, is_installed, load
from ..image import Readable, Selection

CHUNK_BYTES = 2**28
"""Larger chunks are read by zarr, which raises MemoryError if memory runs out."""
CODECS = frozenset(("bytes", "transpose", "blosc", "zstd", "crc32c", "sharding_indexed"))
"""Codecs of both formats whose damage tensorstore reports as zarr does."""


class FastArray:
    """A Zarr array that tensorstore reads."""

    def __init__(self, array: zarr.Array[Any], store: Any) -> None:
        self._array, self._store = array, store
        self.shape, self.dtype = tuple(array.shape), array.dtype

    def __getitem__(self, selection: Selection) -> NDArray[Any]:
        """Return the voxels of slices inside the array and of single indices, as zarr would."""
        if is_forked():
            return np.asarray(self._array[selection])
        try:
            return np.asarray(self._store[selection].read().result())
        except Exception:  # zarr reads it, or raises a known error
            return np.asarray(self._array[selection])


def fastest_reader(array: zarr.Array[Any], folder: str | None) -> Readable:
    """Return the fastest reader of ``array``: tensorstore if it can read it, else zarr.

    folder: of the array on a local disk; None for a remote array.
    """
    if folder is None or not os.path.isdir(folder) or not is_installed():
        return array
    if not _is_safe(array) or is_forked():
        return array
    driver = "zarr3" if array.metadata.zarr_format == 3 else "zarr"
    kvstore = {"driver": "file", "path": folder}
    try:
        store = load().open({"driver": driver, "kvstore": kvstore}, read=True).result()
    except Exception:  # a codec, a filter or a dtype that it does not support
        return array
    dtype = array.dtype.newbyteorder("=")  # tensorstore converts the stored byte order
    same = tuple(store.shape) == tuple(array.shape) and store.dtype.numpy_dtype == dtype
    return FastArray(array, store) if same else array


def _is_safe(array: zarr.Array[Any]) -> bool:
    """Return whether tensorstore reads such chunks, and fails on them, as zarr does."""
    if math.prod(array.chunks) * array.dtype.itemsize > CHUNK_BYTES:
        return False
    document = array.metadata.to_dict()
    if array.metadata.zarr_format == 2:
        compressor = document.get("compressor")
        return compressor is None or _name(compressor, "id") in CODECS
    return CODECS.issuperset(_codec_names(document["codecs"]))


def _codec_names(codecs: Any) -> Iterator[str]:
    """Yield the names of zarr 3 codecs, those inside of shards too."""
    for codec in codecs:
        yield _name(codec, "name")
        if isinstance(codec, Mapping):
            inner = codec.get("configuration") or {}
            yield from _codec_names(inner.get("codecs", ()))
            yield from _codec_names(inner.get("index_codecs", ()))


def _name(codec: Any, key: str) -> str:
    return str(codec[key] if isinstance(codec, Mapping) else codec)
