"""An array of a format that only tensorstore reads.

Missing chunks are the fill value, 0; damaged ones raise. The axes are those of the format reversed,
c z y x: the order in which its voxels lie on disk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...base.errors import VolumeError
from ...base.location import Location
from ...base.tensorstore_use import check_not_forked, context, kvstore, reason, required
from ...base.text import size_text
from .image import Selection

CHUNK_BYTES: Final = 2**30
"""Larger chunks are refused: tensorstore ends the process where memory for one runs out."""


class TensorstoreArray:
    """An opened array; what it reads has the shape and the voxels that its format states."""

    def __init__(self, store: Any, location: Location) -> None:
        self._store, self._location = store, location
        self.shape: tuple[int, ...] = tuple(store.shape)
        self.dtype: np.dtype[Any] = store.dtype.numpy_dtype

    def __getitem__(self, selection: Selection) -> NDArray[Any]:
        """Return the voxels of slices inside the array and of single indices.

        Raises VolumeError for damaged chunks, and in a forked process.
        """
        check_not_forked(VolumeError, self._location)
        try:
            return np.asarray(self._store[selection].read().result())
        except Exception as error:
            raise VolumeError(
                f"{self._location} cannot be read ({reason(error, self._location)})"
            ) from error


def open_array(
    folder: Location, settings: Mapping[str, Any], *, where: Location
) -> TensorstoreArray:
    """Open an array for reading; its axes are reversed, and start at 0.

    settings: tensorstore's driver and its options. Raises VolumeError.
    """
    tensorstore = required(VolumeError, where)
    spec = {**settings, "kvstore": kvstore(folder, VolumeError)}
    try:
        store = tensorstore.open(spec, read=True, context=context()).result()
    except Exception as error:
        raise VolumeError(f"{where} cannot be opened ({reason(error, where)})") from error
    return TensorstoreArray(store.T[tensorstore.d[:].translate_to[0]], where)


def check_chunk(shape: Sequence[int], dtype: str, where: Location) -> None:
    """Raise VolumeError for chunks that are too large to be decoded safely."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size > CHUNK_BYTES:
        raise VolumeError(
            f"{where} has chunks of {size_text(size)}: expected at most {size_text(CHUNK_BYTES)}; "
            "store it in smaller chunks"
        )
