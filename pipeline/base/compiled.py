"""Compiles the loops over voxels and edges with numba; the machine code is cached on disk.

The cache is in a folder of the user, named by a digest of all compiled sources: numba itself looks
at the file of a function only, and not at the files of the functions that it calls.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")
_SOURCES: Final = Path(__file__).parents[1] / "objects"
"""Where compiled functions are."""


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function on its first call, without the interpreter's lock while it runs."""
    elsewhere = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = elsewhere or cache_folder()  # read by njit, here only
    try:
        made: Callable[P, R] = numba.njit(cache=True, nogil=True)(function)
    finally:
        numba.config.CACHE_DIR = elsewhere
    return made


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a small function into each of its callers: calls cost more than what they do.

    Numba cannot inline a function whose machine code it loads from the disk.
    """
    made: Callable[P, R] = numba.njit(inline="always")(function)
    return made


@functools.cache
def cache_folder() -> str:
    """Return the folder of the machine code of these sources, in the user's folder of caches."""
    digest = hashlib.sha256()
    for path in (Path(__file__), *sorted(_SOURCES.rglob("*.py"))):
        digest.update(path.read_bytes())
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return str(Path(caches).expanduser() / "overtile" / "compiled" / digest.hexdigest()[:16])


def is_compiled() -> bool:
    """Return whether this machine has run these sources before."""
    return any(Path(numba.config.CACHE_DIR or cache_folder()).rglob("*.nbc"))
