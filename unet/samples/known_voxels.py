"""Known voxels of a cell of sparse labels, as few bytes: so that patches can be drawn at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

KEPT: Final = 4096
"""Known voxels of a cell that are kept, drawn evenly; all of them if there are fewer."""
_INDEX: Final = np.dtype("<u4")  # a cell has fewer voxels


def packed(known: NDArray[np.bool_], *, seed: int) -> bytes:
    """Return the known voxels of a cell; nothing if all are known, or none."""
    places = np.flatnonzero(known)
    if len(places) == known.size:
        return b""
    if len(places) > KEPT:
        kept = np.random.default_rng(seed).choice(len(places), KEPT, replace=False)
        places = places[np.sort(kept)]
    return places.astype(_INDEX).tobytes()


def unpacked(content: bytes, shape: Sequence[int]) -> NDArray[np.intp]:
    """Return the voxels (n, 3) that :func:`packed` kept of a cell of this shape."""
    return np.stack(np.unravel_index(np.frombuffer(content, _INDEX), tuple(shape)), axis=1)


def drawn(content: bytes, shape: Sequence[int], rng: np.random.Generator) -> list[int]:
    """Return one of the kept voxels (z, y, x), drawn evenly."""
    number = int(rng.integers(len(content) // _INDEX.itemsize))
    index: Any = np.frombuffer(content, _INDEX, count=1, offset=number * _INDEX.itemsize)[0]
    return [int(place) for place in np.unravel_index(int(index), tuple(shape))]
