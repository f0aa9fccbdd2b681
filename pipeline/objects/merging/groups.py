"""The tree of merges: blocks in groups of 2 × 2 × 2, these in groups again, until one is left."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from ...base.geometry import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Levels of groups over a grid of blocks; level 0 are the blocks, the last level has one group.

    There is always a level 1, even over a single block.
    """

    grid: Shape

    @property
    def depth(self) -> int:
        """Number of the last level.

        >>> Tree(grid=(1, 1, 1)).depth, Tree(grid=(1, 3, 4)).depth, Tree(grid=(1, 3, 5)).depth
        (1, 2, 3)
        """
        return max(1, (max(self.grid) - 1).bit_length())

    def counts(self, level: int) -> Shape:
        """Return the number of groups per axis."""
        return tuple(-(-n >> level << level) >> level for n in self.grid)

    def groups(self, level: int) -> Iterator[Shape]:
        """Yield the groups of a level in raster order."""
        return itertools.product(*map(range, self.counts(level)))

    def children(self, level: int, group: Shape) -> tuple[Shape, ...]:
        """Return the groups of the level below that a group is made of, in raster order."""
        counts = self.counts(level - 1)
        ranges = [range(2 * i, min(2 * i + 2, n)) for i, n in zip(group, counts, strict=True)]
        return tuple(itertools.product(*ranges))

    def parent(self, group: Shape) -> Shape:
        """Return the group of the level above."""
        return tuple(i // 2 for i in group)

    def neighbours(self, block: Shape) -> Iterator[tuple[Shape, Shape]]:
        """Yield direction and index of all blocks around a block."""
        for direction in itertools.product((-1, 0, 1), repeat=3):
            index = tuple(i + d for i, d in zip(block, direction, strict=True))
            if any(direction) and all(0 <= i < n for i, n in zip(index, self.grid, strict=True)):
                yield direction, index
