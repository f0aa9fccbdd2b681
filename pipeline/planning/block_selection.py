"""Which blocks of a plan a run computes: all of them, or those that meet a part of the volume."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..base.geometry import Box, Shape
from .blocks import BlockPlan, Region
from .budget import every_block


@dataclass(frozen=True, slots=True, eq=False)
class BlockSelection:
    """The blocks of a plan that are computed; the others are background."""

    plan: BlockPlan
    chosen: NDArray[np.bool_] | None = None
    """On the plan's grid; None: all blocks."""

    @classmethod
    def within(cls, plan: BlockPlan) -> BlockSelection:
        """Return the blocks that meet the box that the plan computes."""
        if plan.within is None:
            return cls(plan)
        chosen = np.zeros(plan.grid, np.bool_)
        axes = zip(plan.within.start, plan.within.stop, plan.core, strict=True)
        chosen[tuple(slice(a // core, -(-b // core)) for a, b, core in axes)] = True
        return cls(plan, chosen)

    def __len__(self) -> int:
        return len(self.plan) if self.chosen is None else int(np.count_nonzero(self.chosen))

    def count(self, region: Region) -> int:
        """Return the number of blocks of a region that are computed."""
        if self.chosen is None:
            return len(region)
        return int(np.count_nonzero(self.chosen[region.blocks.slices]))

    def voxels(self, regions: Iterable[Region]) -> int:
        """Return the number of voxels of the cores of these blocks, in some regions."""
        return sum(map(self._voxels_of, regions))

    def _voxels_of(self, region: Region) -> int:
        lengths = [
            [min(c, n - i * c) for i in range(a, b)]
            for a, b, c, n in zip(
                region.blocks.start, region.blocks.stop, self.plan.core, self.plan.shape,
                strict=True,
            )
        ]  # fmt: skip
        if self.chosen is None:
            return every_block(lengths)
        return _summed(self.chosen[region.blocks.slices], lengths)

    def indices(self, region: Region) -> Iterator[Shape]:
        """Yield the grid positions of the blocks of a region that are computed, in array order."""
        if self.chosen is None:
            return region.indices
        places = np.argwhere(self.chosen[region.blocks.slices]) + region.blocks.start
        return (tuple(map(int, place)) for place in places)

    def skipped(self, regions: Iterable[Region]) -> NDArray[np.bool_]:
        """Return, on the plan's grid, the blocks of these regions that are not computed."""
        skipped = np.zeros(self.plan.grid, np.bool_)
        if self.chosen is not None:
            for region in regions:
                place = region.blocks.slices
                skipped[place] = ~self.chosen[place]
        return skipped

    def summed(self, per_axis: Sequence[Sequence[int]]) -> int:
        """Return the sum, over these blocks, of the product of one number per axis and block."""
        if self.chosen is None:
            return every_block(per_axis)
        return _summed(self.chosen, per_axis)

    def central(self) -> Box:
        """Return the core of the block that is nearest to the middle of these blocks."""
        if self.chosen is None:
            return self.plan.block(tuple(n // 2 for n in self.plan.grid)).core
        places = np.argwhere(self.chosen)
        away = ((places - places.mean(axis=0)) ** 2 * np.square(self.plan.core)).sum(axis=1)
        return self.plan.block(tuple(map(int, places[away.argmin()]))).core

    def all_indices(self) -> Iterator[Shape]:
        """Yield the grid positions of these blocks, in array order."""
        if self.chosen is None:
            return itertools.product(*map(range, self.plan.grid))
        return (tuple(map(int, place)) for place in np.argwhere(self.chosen))


def _summed(chosen: NDArray[np.bool_], per_axis: Sequence[Sequence[int]]) -> int:
    z, y, x = (np.asarray(numbers, np.int64) for numbers in per_axis)
    return int((chosen @ x) @ y @ z)
