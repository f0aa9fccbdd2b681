"""How many digits a table has as CSV: what a person can use, and no less than the measures hold.

Parquet keeps every bit. In CSV, measures have six significant digits and all digits before the
point, and positions a thousandth of a voxel. Counts, boxes and whole grey values are exact.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .shape import Floats

SIGNIFICANT: Final = 6
PARTS_OF_A_VOXEL: Final = 1000
_POSITION: Final = "centroid_"
_POWERS: Final = np.array([float(f"1e{power}") for power in range(23)])
"""The powers of ten that a float64 holds exactly."""


def rounded(table: pa.Table) -> pa.Table:
    """Return some rows of a table with the numbers that CSV has; its schema is that of Parquet."""
    stated = (table.schema.metadata or {}).get(b"overtile.objects", b"{}")
    sizes_um = dict(zip("zyx", json.loads(stated).get("voxel_size_um", ()), strict=False))
    columns = [
        _rounded(table.column(field.name), field.name, sizes_um)
        if field.type == pa.float64()
        else table.column(field.name)
        for field in table.schema
    ]
    return pa.Table.from_arrays(columns, schema=table.schema)


def _rounded(column: pa.ChunkedArray, name: str, sizes_um: Mapping[str, Any]) -> pa.Array:
    values = column.to_numpy()  # NaN where there is no value
    if name.startswith(_POSITION):
        axis, _, unit = name.removeprefix(_POSITION).partition("_")
        size = sizes_um.get(axis) if unit else 1.0
        found = values if size is None else np.round(values, decimals_of(abs(size)))
    else:
        found = significant(values)
    return pa.array(found, mask=column.is_null().to_numpy())


def decimals_of(size: float) -> int:
    """Return the decimals that hold a thousandth of a voxel of this size.

    >>> decimals_of(1.0), decimals_of(0.2), decimals_of(0.004), decimals_of(5000.0)
    (3, 4, 6, 0)
    """
    return max(0, math.ceil(-math.log10(size / PARTS_OF_A_VOXEL) - 1e-9))


def significant(values: Floats) -> Floats:
    """Return numbers with six significant digits, and all digits before the point.

    >>> significant(np.array([0.123456789, 12345678.4, 0.0])).tolist()
    [0.123457, 12345678.0, 0.0]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        magnitude = np.floor(np.log10(np.abs(values)))
    is_usable = np.isfinite(magnitude) & (magnitude > SIGNIFICANT - len(_POWERS))
    digits: NDArray[np.intp] = np.where(is_usable, SIGNIFICANT - 1 - magnitude, 0).astype(np.intp)
    powers = _POWERS[np.maximum(digits, 0)]
    return np.where(is_usable, np.round(values * powers) / powers, values)
