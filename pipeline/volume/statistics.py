"""Grey-value statistics of a volume, summed over its parts in any order.

Moments merge by Chan, Golub and LeVeque (1979). Percentiles of 8- and 16-bit volumes come from a
full histogram and are exact. Those of wider dtypes come from 65,536 bins between the least and the
largest value; their error is at most one bin's width.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 65536


@dataclass(frozen=True, slots=True)
class Moments:
    """Per channel: number of finite voxels, mean, sum of squared deviations, least, largest."""

    count: NDArray[np.int64]
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    least: NDArray[np.float64]
    largest: NDArray[np.float64]

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        n = np.maximum(count, 1)
        delta = other.mean - self.mean
        return Moments(
            count,
            self.mean + delta * other.count / n,
            self.squares + other.squares + delta**2 * self.count * other.count / n,
            np.minimum(self.least, other.least),
            np.maximum(self.largest, other.largest),
        )

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation per channel, 0 if there is no voxel."""
        return np.sqrt(self.squares / np.maximum(self.count, 1))


def moments_of(values_czyx: NDArray[Any]) -> Moments:
    """Return the moments of each channel; NaN and infinite values are ignored."""
    parts = [_channel_moments(channel) for channel in values_czyx]
    count, mean, squares, least, largest = zip(*parts, strict=True)
    return Moments(
        np.array(count, np.int64), np.array(mean), np.array(squares), np.array(least),
        np.array(largest),
    )  # fmt: skip


def _channel_moments(channel: NDArray[Any]) -> tuple[int, float, float, float, float]:
    values = channel.ravel()
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        return 0, 0.0, 0.0, np.inf, -np.inf
    wide = values.astype(np.float64)
    mean = float(wide.mean())
    squares = float(((wide - mean) ** 2).sum())
    return values.size, mean, squares, float(wide.min()), float(wide.max())


@dataclass(frozen=True, slots=True)
class HistogramRange:
    """The bins of a channel: bin i starts at ``low + i * width``."""

    low: float
    width: float

    @classmethod
    def of_dtype(cls, dtype: str) -> HistogramRange | None:
        """Return one bin per value for 8- and 16-bit integers, None for other types."""
        kind = np.dtype(dtype)
        if kind.kind in "iu" and kind.itemsize <= 2:
            return cls(float(np.iinfo(kind).min), 1.0)
        return None

    @classmethod
    def between(cls, least: float, largest: float) -> HistogramRange:
        """Return bins that cover ``least`` to ``largest``."""
        span = largest - least
        return cls(least, span / (BINS - 1) if np.isfinite(span) and span > 0 else 1.0)


def histogram_of(values_czyx: NDArray[Any], ranges: Iterable[HistogramRange]) -> NDArray[np.int64]:
    """Return counts (channel, bin); NaN and infinite values are ignored."""
    rows = []
    for channel, bins in zip(values_czyx, ranges, strict=True):
        values = channel.ravel()
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
        position = (values.astype(np.float64) - bins.low) / bins.width
        rows.append(np.bincount(np.clip(position, 0, BINS - 1).astype(np.int64), minlength=BINS))
    return np.stack(rows)


def percentile_of(counts: NDArray[np.int64], bins: HistogramRange, percent: float) -> float:
    """Return the least value at or below which ``percent`` of the voxels lie; 0 if there is none.

    This is numpy's ``inverted_cdf``.
    """
    total = int(counts.sum())
    if not total:
        return 0.0
    rank = max(1, int(np.ceil(percent / 100 * total)))
    return bins.low + float(np.searchsorted(np.cumsum(counts), rank)) * bins.width
