"""How many objects have which size: counts by size, in the same memory for any number of objects.

Sizes up to 127 voxels are counted singly, larger ones in 64 steps per doubling::

    voxels   1 2 3 … 127 | 128-129, 130-131 … 254-255 | 256-259 …
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

EXACT_UP_TO: Final = 127
"""Voxels; larger sizes are known within 1 %."""
_STEPS: Final = 64
_BUCKETS: Final = 58 * _STEPS
"""Up to 2**63 - 1 voxels."""


@dataclass(frozen=True, slots=True)
class SizeCounts:
    """Objects by size in voxels; counts of parts add up to those of the whole."""

    counts: NDArray[np.int64]

    @classmethod
    def of(cls, voxels: NDArray[Any]) -> SizeCounts:
        """Return the counts of some objects. voxels: of each, at least 1."""
        return cls(np.bincount(_bucket(voxels), minlength=_BUCKETS).astype(np.int64))

    def __add__(self, other: SizeCounts) -> SizeCounts:
        return SizeCounts(self.counts + other.counts)

    @property
    def objects(self) -> int:
        """Number of objects."""
        return int(self.counts.sum())

    def quantile(self, share: float) -> float:
        """Return the smallest size that at least this share of the objects does not exceed.

        Exact up to EXACT_UP_TO, then within 1 %. Raises IndexError where there is no object.
        """
        rank = max(1, math.ceil(round(share * self.objects, 6)))
        bucket = int(np.flatnonzero(np.cumsum(self.counts) >= rank)[0])
        return (_first(bucket) + _first(bucket + 1) - 1) / 2

    def bars(self, *, most: int) -> list[tuple[int, int, int]]:
        """Return (first size, size behind the last, objects) of each bar of a histogram.

        The bars are equally wide on a logarithmic scale, where integers allow it; no size lies in
        two bars. most: how many bars there are, at most, if there are two doublings for each.
        """
        filled = np.flatnonzero(self.counts)
        if not filled.size:
            return []
        low, high = _first(int(filled[0])), _first(int(filled[-1]) + 1)
        doublings = math.log2(high / low)
        per_doubling = max(1, min(16, int(most / max(1.0, doublings + 1))))
        edges = _edges(low, high, per_doubling)
        cumulated = np.concatenate(([0], np.cumsum(self.counts)))
        return [
            (_first(a), _first(b), int(cumulated[b] - cumulated[a]))
            for a, b in itertools.pairwise(edges)
            if a <= filled[-1] and b > filled[0]
        ]


def _edges(low: int, high: int, per_doubling: int) -> list[int]:
    """Return the ascending buckets at which bars begin, and the one behind the last bar."""
    first = math.floor(math.log2(low) * per_doubling)
    last = math.ceil(math.log2(high) * per_doubling)
    sizes = [math.ceil(round(2 ** (n / per_doubling), 6)) for n in range(first, last + 1)]
    return sorted(set(_bucket(np.array(sizes)).tolist()))


def _bucket(voxels: NDArray[Any]) -> NDArray[np.int64]:
    """Return the numbers of the buckets in which sizes are counted."""
    _, bits = np.frexp(voxels.astype(np.float64))
    halvings = np.maximum(bits.astype(np.int64) - 7, 0)
    return np.asarray(halvings * _STEPS + (voxels.astype(np.int64) >> halvings))


def _first(bucket: int) -> int:
    """Return the smallest size that is counted in a bucket."""
    halvings = max(bucket // _STEPS - 1, 0)
    return (bucket - halvings * _STEPS) << halvings
