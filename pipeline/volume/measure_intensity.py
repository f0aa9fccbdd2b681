"""Measures the normalisation of a volume on the cluster; each task reads a share of the volume."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial, reduce
from operator import add
from typing import Any, TypeAlias

import numpy as np
from distributed import Client
from numpy.typing import NDArray

from ..base.errors import VolumeError
from ..base.geometry import Box, Shape, round_up
from ..base.scheduling import run_all
from ..base.store_errors import explained
from .intensity import (
    Intensity,
    check_percentiles,
    range_intensity,
    stated_intensity,
    zscore_intensity,
)
from .order_statistics import Searches, count_digits, values_at_ranks
from .statistics import (
    HistogramRange,
    Moments,
    histogram_of,
    moments_of,
    percentile_of,
    rank_of,
)
from .volume import VolumeSource, read_box

_STEP_VOXELS = 2**22


def measure_intensity(
    source: VolumeSource,
    record: Mapping[str, Any],
    client: Client,
    *,
    token: str,
    stop: threading.Event | None = None,
) -> Intensity:
    """Return the Intensity of a complete normalisation record for this volume.

    The result does not depend on the cluster. The volume is read once; percentiles of dtypes wider
    than 16 bits need its range first, so it is read twice, and with extreme outliers once more per
    16 bits of the dtype. Two tasks per thread of the cluster read it. Raises IntensityError for
    grey values that this normalisation does not suit.
    """
    stated = stated_intensity(record, source.dtype)
    if stated is not None:
        return stated
    stop = stop or threading.Event()
    shares = max(1, 2 * sum(client.nthreads().values()))

    def summed(function: Callable[..., Any], *arguments: Any) -> Any:
        calls = [(function, (source, share, shares, *arguments)) for share in range(shares)]
        parts = run_all(client, calls, key="measure-intensity", token=token, stop=stop)
        return reduce(add, parts)

    return _measured(source, record, summed)


def measure_here(source: VolumeSource, record: Mapping[str, Any]) -> Intensity:
    """Return what :func:`measure_intensity` returns, measured by threads of this process.

    Raises VolumeError where a part cannot be read, IntensityError as there.
    """
    stated = stated_intensity(record, source.dtype)
    if stated is not None:
        return stated
    shares = os.cpu_count() or 1

    def summed(function: Callable[..., Any], *arguments: Any) -> Any:
        with explained(VolumeError, source.location), ThreadPoolExecutor(shares) as pool:
            parts = pool.map(lambda n: function(source, n, shares, *arguments), range(shares))
            return reduce(add, parts)

    return _measured(source, record, summed)


def _measured(
    source: VolumeSource, record: Mapping[str, Any], summed: Callable[..., Any]
) -> Intensity:
    """Return the Intensity of a record that must be measured.

    summed: calls a function with (source, share, shares, …) for every share; returns the sum.
    """
    if record["kind"] == "zscore":
        moments: Moments = summed(_moments_of_share)
        return zscore_intensity(list(zip(moments.mean.tolist(), moments.std.tolist(), strict=True)))
    percents = float(record["low"]), float(record["high"])
    measure = _narrow_percentiles if HistogramRange.of_dtype(source.dtype) else _wide_percentiles
    bounds, extremes = measure(source, percents, summed)
    check_percentiles(record, bounds, extremes)
    return range_intensity(bounds)


_Pairs: TypeAlias = list[tuple[float, float]]
_Percents: TypeAlias = tuple[float, float]


def _narrow_percentiles(
    source: VolumeSource, percents: _Percents, summed: Callable[..., Any]
) -> tuple[_Pairs, _Pairs]:
    """Return the percentiles and the extremes of each channel of 8 or 16 bits."""
    bins = HistogramRange.of_dtype(source.dtype)
    assert bins is not None
    counts = summed(_histogram_of_share, (bins,) * source.channel_count)
    bounds, extremes = (
        [_pair(channel, bins, each) for channel in counts] for each in (percents, (0.0, 100.0))
    )
    return bounds, extremes


def _wide_percentiles(
    source: VolumeSource, percents: _Percents, summed: Callable[..., Any]
) -> tuple[_Pairs, _Pairs]:
    """Return the percentiles and the extremes of each channel of a wider dtype."""
    moments: Moments = summed(_moments_of_share)
    extremes = list(zip(moments.least.tolist(), moments.largest.tolist(), strict=True))
    ranges = tuple(HistogramRange.between(*ends) for ends in extremes)
    counts = summed(_histogram_of_share, ranges)
    bounds = [_pair(*channel, percents) for channel in zip(counts, ranges, strict=True)]
    coarse = tuple(
        channel
        for channel, (low, high) in enumerate(bounds)
        if not ranges[channel].resolves(low, high, extremes=extremes[channel])
    )
    if coarse:
        totals = [int(moments.count[channel]) for channel in coarse]
        ranks = [[rank_of(percent, total) for percent in percents] for total in totals]
        count = partial(summed, _digits_of_share, coarse)
        for channel, exact in zip(coarse, values_at_ranks(ranks, source.dtype, count), strict=True):
            bounds[channel] = exact[0], exact[1]
    return bounds, extremes


def _pair(
    counts: NDArray[np.int64], bins: HistogramRange, percents: _Percents
) -> tuple[float, float]:
    low, high = (percentile_of(counts, bins, percent) for percent in percents)
    return low, high


def boxes_of_share(shape: Shape, chunk: Shape, share: int, shares: int) -> Iterator[Box]:
    """Yield the boxes of one share; all shares cover the volume once, on whole chunks."""
    step = list(chunk)
    for axis in reversed(range(len(step))):
        while step[axis] < shape[axis] and 2 * int(np.prod(step)) <= _STEP_VOXELS:
            step[axis] = min(2 * step[axis], round_up(shape[axis], chunk[axis]))
    whole = Box.of_shape(shape)
    starts = itertools.product(*(range(0, n, s) for n, s in zip(shape, step, strict=True)))
    for start in itertools.islice(starts, share, None, shares):
        yield Box(start, tuple(a + s for a, s in zip(start, step, strict=True))).clipped_to(whole)


def _parts(source: VolumeSource, share: int, shares: int) -> Iterator[NDArray[Any]]:
    """Yield the values of a share as (c, voxel), in parts whose float64 copies are small."""
    for box in boxes_of_share(source.shape_zyx, source.chunk_shape_zyx, share, shares):
        values = read_box(source, box).reshape(source.channel_count, -1)
        for first in range(0, values.shape[1], _STEP_VOXELS):
            yield values[:, first : first + _STEP_VOXELS]


def _moments_of_share(source: VolumeSource, share: int, shares: int) -> Moments:
    nothing = moments_of(np.empty((source.channel_count, 0)))
    return reduce(add, map(moments_of, _parts(source, share, shares)), nothing)


def _histogram_of_share(
    source: VolumeSource, share: int, shares: int, ranges: tuple[HistogramRange, ...]
) -> NDArray[np.int64]:
    counts = histogram_of(np.empty((source.channel_count, 0)), ranges)
    for values in _parts(source, share, shares):
        counts += histogram_of(values, ranges)
    return counts


def _digits_of_share(
    source: VolumeSource,
    share: int,
    shares: int,
    channels: tuple[int, ...],
    searches: Searches,
) -> NDArray[np.int64]:
    chosen = list(channels)
    counts = count_digits(np.empty((len(chosen), 0), source.dtype), searches)
    for values in _parts(source, share, shares):
        counts += count_digits(values[chosen], searches)
    return counts
