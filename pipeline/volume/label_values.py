"""Labels as integers, whatever they are stored as: bool masks, and floats of whole numbers.

Napari, CZ cryoET and many scripts store masks as bool or float32. Their classes are 0 and 1, or the
whole numbers that they hold.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..base.errors import LabelError

UNKNOWN: Final = -(2**63)
"""Label of int64 of a voxel whose class is unknown: a training always ignores it."""
_EXACT: Final = 2**53
"""Floats of 64 bits hold every whole number up to this one."""


def label_dtype(stored: str) -> str:
    """Return the dtype in which labels of a stored dtype are read."""
    kind = np.dtype(stored).kind
    return {"b": "uint8", "f": "int64"}.get(kind, stored)


def as_integers(values: NDArray[Any], *, where: object) -> NDArray[Any]:
    """Return labels in :func:`label_dtype`. Raises LabelError for floats that are not whole."""
    kind = values.dtype.kind
    if kind == "b":
        return values.astype(np.uint8)
    if kind != "f":
        return values
    wide = values.astype(np.float64)
    is_whole = np.isfinite(wide) & (np.rint(wide) == wide) & (np.abs(wide) <= _EXACT)
    if not is_whole.all():
        raise LabelError(
            f"labels {where} hold {wide[~is_whole].flat[0]:g}: expected whole numbers (classes or "
            "object ids); threshold or round them first"
        )
    return wide.astype(np.int64)
