"""Reads a small array of the ledger, also where some of its chunks are damaged."""

from __future__ import annotations

import errno
import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.store_errors import is_unreachable


def read_chunkwise(array: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return an array's values, and which of them cannot be read: these are 0.

    Codecs raise errors of their own kinds, so any error counts, except that of a store which cannot
    be reached or denies access: that is raised.
    """
    lost = np.zeros(array.shape, np.bool_)
    try:
        return np.asarray(array[...]), lost
    except Exception as error:
        raise_if_unreachable(error)
        values = np.zeros(array.shape, array.dtype)
    ranges = (range(0, n, c) for n, c in zip(array.shape, array.chunks, strict=True))
    for start in itertools.product(*ranges):
        place = tuple(slice(a, a + c) for a, c in zip(start, array.chunks, strict=True))
        try:
            values[place] = array[place]
        except Exception as error:
            raise_if_unreachable(error)
            lost[place] = True
    return values, lost


def raise_if_unreachable(error: Exception) -> None:
    """Raise an error of a store again, unless it is that of a device which cannot read a file."""
    is_absent = isinstance(error, FileNotFoundError)
    if is_unreachable(error):  # botocore's are not OSErrors
        raise error
    if isinstance(error, OSError) and error.errno != errno.EIO and not is_absent:
        raise error
