"""Compiles the loops over voxels and edges with numba; the machine code is cached on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function on its first call, without the interpreter's lock while it runs."""
    made: Callable[P, R] = numba.njit(cache=True, nogil=True)(function)
    return made


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a small function into each of its callers: calls cost more than what they do.

    Numba cannot inline a function whose machine code it loads from the disk.
    """
    made: Callable[P, R] = numba.njit(inline="always")(function)
    return made
