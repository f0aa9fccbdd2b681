"""In which type grey values are normalised, on the host and on a device alike."""

from __future__ import annotations

from typing import Literal


def working_dtype(kind: str, itemsize: int) -> Literal["float32", "float64"]:
    """Return float64 for values that float32 would round, else float32.

    kind, itemsize: of the raw values, as numpy's dtype states them.

    >>> working_dtype("u", 2), working_dtype("u", 4), working_dtype("f", 4)
    ('float32', 'float64', 'float32')
    """
    exact = 4 if kind == "f" else 2
    return "float64" if itemsize > exact else "float32"
