"""The cells in which the labels of a volume are surveyed, and the order in which they are read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from .known_voxels import drawn

CELL: Final = (16, 256, 256)
"""Voxels (z, y, x) of a cell."""
CELLS_PER_VOLUME: Final = 256
"""In a volume of more cells, so many are surveyed, spread evenly; and as many in each round."""
SPARSE_CELLS: Final = 4 * CELLS_PER_VOLUME
"""Cells of a round or more that are surveyed, besides neighbours, where labels are sparse."""
MOST_CELLS: Final = 16 * CELLS_PER_VOLUME
"""Cells that are surveyed, with neighbours, where labels are sparse."""
MORE_CELLS: Final = 64 * CELLS_PER_VOLUME
"""Further cells at most, as long as all voxels are ignored."""


@dataclass(frozen=True, slots=True)
class CellGrid:
    """The cells of a volume, numbered along x, then y, then z; the last ones may be smaller."""

    shape: tuple[int, int, int]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Cells per axis."""
        z, y, x = (-(-size // cell) for size, cell in zip(self.shape, CELL, strict=True))
        return z, y, x

    def __len__(self) -> int:
        return math.prod(self.counts)

    def box(self, number: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Return start and stop of a cell."""
        places = [int(place) for place in np.unravel_index(number, self.counts)]
        z, y, x = (place * cell for place, cell in zip(places, CELL, strict=True))
        end_z, end_y, end_x = (
            min(start + cell, size)
            for start, cell, size in zip((z, y, x), CELL, self.shape, strict=True)
        )
        return (z, y, x), (end_z, end_y, end_x)

    def around(self, numbers: Iterable[int]) -> list[int]:
        """Return the face neighbours of some cells."""
        found = set()
        for number in numbers:
            place = np.unravel_index(number, self.counts)
            for axis, count in enumerate(self.counts):
                for step in (-1, 1):
                    other = [int(at) for at in place]
                    other[axis] += step
                    if 0 <= other[axis] < count:
                        found.add(int(np.ravel_multi_index(other, self.counts)))
        return sorted(found)

    def rounds(self) -> Iterator[list[int]]:
        """Yield the cells to survey: spread evenly, then as many others at a time, at random."""
        first = sorted({round(i) for i in np.linspace(0, len(self) - 1, CELLS_PER_VOLUME)})
        yield first
        others = np.setdiff1d(np.arange(len(self)), first)
        np.random.default_rng(0).shuffle(others)
        for start in range(0, min(len(others), MORE_CELLS), CELLS_PER_VOLUME):
            yield others[start : start + CELLS_PER_VOLUME].tolist()


@dataclass(frozen=True, slots=True)
class Cell:
    """A box of a volume, and how many voxels of each class it holds."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]
    counts: tuple[int, ...]
    known: bytes = b""
    """Known voxels of it (``known_voxels.packed``); empty if all are known, or none."""
    of_class: tuple[bytes, ...] = ()
    """Voxels of each class in it, likewise."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size in voxels."""
        z, y, x = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    @property
    def known_voxels(self) -> int:
        """Voxels whose class is known."""
        found = sum(self.counts)
        return found if self.known or not found else math.prod(self.shape)

    def draw(self, rng: np.random.Generator) -> list[int]:
        """Return a known voxel (z, y, x) of the volume in this cell, drawn evenly."""
        return self._draw(self.known, rng)

    def draw_of(self, number: int, rng: np.random.Generator) -> list[int]:
        """Return a voxel (z, y, x) of the volume that has a class of this cell, drawn evenly."""
        is_everywhere = self.counts[number] == math.prod(self.shape)
        return self._draw(b"" if is_everywhere else self.of_class[number], rng)

    def _draw(self, places: bytes, rng: np.random.Generator) -> list[int]:
        if not places:
            return [int(rng.integers(a, b)) for a, b in zip(self.start, self.stop, strict=True)]
        inside = drawn(places, self.shape, rng)
        return [a + i for a, i in zip(self.start, inside, strict=True)]
