"""Some voxels of a cell, as few bytes: the known ones, or those of a class, to draw patches at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

KEPT: Final = 4096
"""Known voxels of a cell that are kept, drawn evenly; all of them if there are fewer."""
KEPT_OF_A_CLASS: Final = 512
"""Voxels of a cell that are kept of each class, in the same way."""
_INDEX: Final = np.dtype("<u4")  # a cell has fewer voxels


def packed(chosen: NDArray[np.bool_], *, seed: int, kept: int = KEPT) -> bytes:
    """Return the chosen voxels of a cell, ``kept`` at most; nothing if all are chosen, or none."""
    places = np.flatnonzero(chosen)
    if len(places) == chosen.size:
        return b""
    if len(places) > kept:
        some = np.random.default_rng(seed).choice(len(places), kept, replace=False)
        places = places[np.sort(some)]
    return places.astype(_INDEX).tobytes()


def unpacked(content: bytes, shape: Sequence[int]) -> NDArray[np.intp]:
    """Return the voxels (n, 3) that :func:`packed` kept of a cell of this shape."""
    return np.stack(np.unravel_index(np.frombuffer(content, _INDEX), tuple(shape)), axis=1)


def drawn(content: bytes, shape: Sequence[int], rng: np.random.Generator) -> list[int]:
    """Return one of the kept voxels (z, y, x), drawn evenly."""
    number = int(rng.integers(len(content) // _INDEX.itemsize))
    index: Any = np.frombuffer(content, _INDEX, count=1, offset=number * _INDEX.itemsize)[0]
    return [int(place) for place in np.unravel_index(int(index), tuple(shape))]
