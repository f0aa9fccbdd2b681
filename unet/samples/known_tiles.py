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
            voxels = unpacked(cell.known, cell.shape) + cell.start
            places = np.unique(voxels // tile, axis=0)
            found |= {(int(z), int(y), int(x)) for z, y, x in places * tile}
        elif cell.known_voxels:
            first = (a // size * size for a, size in zip(cell.start, tile, strict=True))
            ranges = map(range, first, cell.stop, tile)
            found |= {(z, y, x) for z, y, x in product(*ranges)}
    return sorted(found)
