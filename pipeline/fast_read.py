"""Reading local arrays with tensorstore where it is installed: the same voxels in less time.

It is optional (``pip install 'overtile[fast]'``), and zarr has the last word: what tensorstore does
not open or read, zarr reads, or zarr says what is wrong with it.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any, Protocol, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray

Selection: TypeAlias = tuple[slice | int, ...]


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
        try:
            return np.asarray(self._store[selection].read().result())
        except Exception:  # whatever it is, zarr meets it too, and what it says is known
            return np.asarray(self._array[selection])


def readable(array: zarr.Array[Any], folder: str | None) -> Readable:
    """Return what reads ``array`` fastest here.

    folder: where the array lies on a local disk; None where it does not.
    """
    if folder is None or not os.path.isdir(folder) or not is_installed():
        return array
    import tensorstore

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
