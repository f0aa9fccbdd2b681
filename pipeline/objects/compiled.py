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
