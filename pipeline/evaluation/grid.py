"""Blocks for reading: whole chunks, numbered so that neighbours are known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..base.geometry import Box, Shape

Index: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxGrid:
    """A box cut at multiples of ``step``, so at borders of chunks; blocks cover it exactly once.

    ::

        |...|...|...|...|      multiples of step
          [bb|bbb|bbb|b]       box: four blocks, numbered from 0
    """

    box: Box
    step: Shape

    @property
    def counts(self) -> Shape:
        """Blocks per axis."""
        return tuple(
            -(-stop // step) - start // step
            for start, stop, step in zip(self.box.start, self.box.stop, self.step, strict=True)
        )

    def __len__(self) -> int:
        return math.prod(self.counts)

    def __iter__(self) -> Iterator[Index]:
        return itertools.product(*(range(count) for count in self.counts))

    def block(self, index: Index) -> Box:
        """Return the voxels of one block."""
        start = tuple(
            (first // step + number) * step
            for first, step, number in zip(self.box.start, self.step, index, strict=True)
        )
        stop = tuple(a + step for a, step in zip(start, self.step, strict=True))
        return Box(start, stop).clipped_to(self.box)


def reading_step(*chunks: Sequence[int], shape: Sequence[int], voxels: int) -> Shape:
    """Return the sizes of blocks of up to ``voxels`` voxels: whole chunks where they are smaller.

    chunks: of every array that is read together; the larger one counts, per axis.

    >>> reading_step((1, 256, 256), (8, 128, 128), shape=(100, 512, 512), voxels=2**20)
    (8, 256, 512)
    """
    step = [min(max(sizes), size) for *sizes, size in zip(*chunks, shape, strict=True)]
    for axis in reversed(range(len(step))):
        while step[axis] < shape[axis] and 2 * math.prod(step) <= voxels:
            step[axis] *= 2
    while math.prod(step) > voxels:
        largest = max(range(len(step)), key=lambda axis: step[axis])
        step[largest] = -(-step[largest] // 2)
    return tuple(step)
