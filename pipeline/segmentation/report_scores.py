"""The scores of a result, counted for its report: all of them, or a sample of a large volume."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import reduce
from math import prod
from operator import add

from ..base.geometry import Box
from ..report.planes import Level
from ..report.sureness import ScoreCounts

MOST_BYTES = 64 * 2**20
"""That are read, before compression; at least one chunk is."""
MOST_CHUNKS = 27
"""Of a sample of a large volume."""


def count_scores(level: Level, *, within: Box) -> tuple[ScoreCounts, bool] | None:
    """Return the counts of scores, and whether they are a sample; None without any score.

    level: the finest one of the scores. within: what was computed.
    """
    is_sample = prod(level.shape) * level.voxel_bytes > MOST_BYTES
    boxes = (box.clipped_to(within) for box in _chunks(level, is_sample=is_sample))
    counts = [ScoreCounts.of(level.read(box)) for box in boxes if box.voxels]
    if not counts:
        return None
    found = reduce(add, counts)
    return (found, is_sample) if found.voxels else None


def _chunks(level: Level, *, is_sample: bool) -> Iterator[Box]:
    """Yield the boxes of all chunks, or of some that are spread over the volume."""
    counts = [-(-size // chunk) for size, chunk in zip(level.shape, level.chunk, strict=True)]
    few = counts
    if is_sample:
        most = max(1, MOST_BYTES // (prod(level.chunk) * level.voxel_bytes))
        few = _few(counts, most=min(MOST_CHUNKS, most))
    chosen = [_spread(count, n) for count, n in zip(counts, few, strict=True)]
    for index in itertools.product(*chosen):
        start = tuple(number * chunk for number, chunk in zip(index, level.chunk, strict=True))
        stop = tuple(
            min(a + chunk, size)
            for a, chunk, size in zip(start, level.chunk, level.shape, strict=True)
        )
        yield Box(start, stop)


def _few(counts: Sequence[int], *, most: int) -> list[int]:
    """Return how many chunks to take of each axis, in proportion to those that there are.

    >>> _few([100, 100, 100], most=27), _few([1, 40, 80], most=27), _few([1, 1, 2], most=27)
    ([3, 3, 3], [1, 4, 6], [1, 1, 2])
    """
    few = [1] * len(counts)
    while True:
        more = [
            axis
            for axis, count in enumerate(counts)
            if few[axis] < count and prod(few) // few[axis] * (few[axis] + 1) <= most
        ]
        if not more:
            return few
        few[max(more, key=lambda axis: counts[axis] / few[axis])] += 1


def _spread(count: int, few: int) -> list[int]:
    """Return ``few`` numbers that are spread evenly over ``range(count)``.

    >>> _spread(100, 3), _spread(2, 2), _spread(5, 1)
    ([16, 50, 83], [0, 1], [2])
    """
    return [(2 * n + 1) * count // (2 * few) for n in range(few)]
