"""The tiles of a volume in which something is known, by the survey of its labels."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import numpy as np

from .cells import Cell
from .known_voxels import unpacked

Shape = tuple[int, int, int]


def known_tiles(cells: Iterable[Cell], tile: Shape) -> list[Shape]:
    """Return the starts of the tiles with known voxels; tiles lie side by side from voxel 0 on."""
    found: set[Shape] = set()
    for cell in cells:
        if cell.known:
            places = (unpacked(cell.known, cell.shape) + cell.start) // tile
            lowest = places.min(axis=0)
            extent = places.max(axis=0) - lowest + 1
            numbers = np.unique(np.ravel_multi_index(tuple((places - lowest).T), tuple(extent)))
            starts = (np.stack(np.unravel_index(numbers, tuple(extent)), axis=1) + lowest) * tile
            found |= {(int(z), int(y), int(x)) for z, y, x in starts}
        elif cell.known_voxels:
            first = (a // size * size for a, size in zip(cell.start, tile, strict=True))
            ranges = map(range, first, cell.stop, tile)
            found |= {(z, y, x) for z, y, x in product(*ranges)}
    return sorted(found)
