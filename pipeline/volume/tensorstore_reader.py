"""Reading local arrays with tensorstore where it is installed: the same voxels in less time.

It is optional (``pip install 'overtile[fast]'``), and zarr has the last word: what tensorstore does
not open or read, zarr reads, or zarr says what is wrong with it. Left to zarr from the start are
codecs whose damage tensorstore lets pass (gzip, zlib and bz2 without their end), chunks so large
that it would end the process for want of memory, and processes forked from one that has used it.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray

Selection: TypeAlias = tuple[slice | int, ...]


CHUNK_BYTES = 2**28
"""Larger chunks are left to zarr, which can say that there is no memory for one."""
CODECS = frozenset(("bytes", "transpose", "blosc", "zstd", "crc32c", "sharding_indexed"))
"""Those of both formats whose damage tensorstore reports as zarr does."""

_loaded_in: dict[str, int] = {}
"""The process that loaded tensorstore first: it ends a child that was forked from it."""


class Readable(Protocol):
    """What gives the voxels of a selection: a ``zarr.Array``, or one that reads faster."""

    def __getitem__(self, selection: Selection) -> Any:
        """Return the voxels as an array."""


class FastArray:
    """A Zarr array that tensorstore reads."""

    def __init__(self, array: zarr.Array[Any], store: Any) -> None:
        self._array, self._store = array, store

    def __getitem__(self, selection: Selection) -> NDArray[Any]:
        """Return the voxels of slices inside the array and of single indices, as zarr would."""
        if _is_forked():
            return np.asarray(self._array[selection])
        try:
            return np.asarray(self._store[selection].read().result())
        except Exception:  # zarr reads it, or says what is wrong in words that are known
            return np.asarray(self._array[selection])


def readable(array: zarr.Array[Any], folder: str | None) -> Readable:
    """Return what reads ``array`` fastest here.

    folder: where the array lies on a local disk; None where it does not.
    """
    if folder is None or not os.path.isdir(folder) or not is_installed():
        return array
    if not _is_safe(array) or _is_forked():
        return array
    import tensorstore

    _loaded_in.setdefault("pid", os.getpid())
    driver = "zarr3" if array.metadata.zarr_format == 3 else "zarr"
    place = {"driver": "file", "path": folder}
    try:
        store = tensorstore.open({"driver": driver, "kvstore": place}, read=True).result()
    except Exception:  # a codec, a filter or a dtype that it does not know
        return array
    dtype = array.dtype.newbyteorder("=")  # which byte order is stored is tensorstore's own matter
    same = tuple(store.shape) == tuple(array.shape) and store.dtype.numpy_dtype == dtype
    return FastArray(array, store) if same else array


def is_installed() -> bool:
    """Return whether tensorstore is there, without loading it."""
    return importlib.util.find_spec("tensorstore") is not None


def _is_forked() -> bool:
    """Return whether this process was forked from one that had loaded tensorstore."""
    return _loaded_in.get("pid", os.getpid()) != os.getpid()


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
