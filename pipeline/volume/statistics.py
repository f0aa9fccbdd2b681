"""Grey-value statistics of a volume, summed over its parts in any order.

Moments merge by Chan, Golub and LeVeque (1979). Percentiles of 8- and 16-bit volumes come from a
full histogram and are exact. Those of wider dtypes come from 65,536 bins between the least and the
largest value; their error is at most one bin's width. Where outliers make these bins too wide for
the percentiles (:meth:`HistogramRange.resolves`), order_statistics.py finds them exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 65536
RESOLVED_BINS = 1024
"""Bins that must lie between two percentiles: the error is then below 0.1 % of their distance."""


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
        with np.errstate(over="ignore", invalid="ignore"):
            delta = other.mean - self.mean
            mean = self.mean + delta * other.count / n
            apart = delta**2 * self.count * other.count / n
            squares = self.squares + other.squares + apart
        least, largest = (
            np.minimum(self.least, other.least),
            np.maximum(self.largest, other.largest),
        )
        return Moments(count, mean, squares, least, largest)

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


def finite(channel: NDArray[Any]) -> NDArray[Any]:
    """Return the values of a channel in one dimension, without NaN and infinities."""
    values = channel.ravel()
    return values[np.isfinite(values)] if values.dtype.kind == "f" else values


def _channel_moments(channel: NDArray[Any]) -> tuple[int, float, float, float, float]:
    values = finite(channel)
    if not values.size:
        return 0, 0.0, 0.0, np.inf, -np.inf
    wide = values.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # zscore_intensity rejects the result
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
        width = span / (BINS - 1) if span < np.inf else 0.0
        return cls(least, width if width > 0 else 1.0)

    def resolves(self, low: float, high: float, *, extremes: tuple[float, float]) -> bool:
        """Return whether these bins are narrow enough for two percentiles.

        extremes: the values that the bins cover. In a channel of one value, any bins are.
        """
        least, largest = extremes
        if least >= largest:
            return True
        return largest - least < np.inf and high - low >= RESOLVED_BINS * self.width


def histogram_of(values_czyx: NDArray[Any], ranges: Iterable[HistogramRange]) -> NDArray[np.int64]:
    """Return counts (channel, bin); NaN and infinite values are ignored."""
    rows = []
    for channel, bins in zip(values_czyx, ranges, strict=True):
        with np.errstate(over="ignore"):  # the last bin takes what overflows
            position = (finite(channel).astype(np.float64) - bins.low) / bins.width
        rows.append(np.bincount(np.clip(position, 0, BINS - 1).astype(np.int64), minlength=BINS))
    return np.stack(rows)


def percentile_of(counts: NDArray[np.int64], bins: HistogramRange, percent: float) -> float:
    """Return the least value at or below which ``percent`` of the voxels lie; 0 if there is none.

    This is numpy's ``inverted_cdf``.
    """
    total = int(counts.sum())
    if not total:
        return 0.0
    rank = rank_of(percent, total)
    return bins.low + float(np.searchsorted(np.cumsum(counts), rank)) * bins.width


def rank_of(percent: float, total: int) -> int:
    """Return the rank of a percentile among ``total`` values; the least value has rank 1."""
    return max(1, int(np.ceil(percent / 100 * total)))
