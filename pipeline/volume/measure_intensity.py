"""Measures the normalisation of a volume on the cluster; each task reads a share of the volume."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from distributed import Client
from numpy.typing import NDArray

from ..base.geometry import Box, Shape, round_up
from ..base.scheduling import run_all
from .intensity import Intensity, range_intensity, stated_intensity, zscore_intensity
from .statistics import HistogramRange, Moments, histogram_of, moments_of, percentile_of
from .volume import VolumeSource, open_volume

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

    The volume is read at most twice (wide dtypes need their range before their histogram), by two
    tasks per thread of the cluster.
    """
    stated = stated_intensity(record, source.dtype)
    if stated is not None:
        return stated
    stop = stop or threading.Event()
    shares = max(1, 2 * sum(client.nthreads().values()))

    def summed(function: Any, *arguments: Any) -> Any:
        calls = [(function, (source, share, shares, *arguments)) for share in range(shares)]
        parts = run_all(client, calls, key="measure-intensity", token=token, stop=stop)
        return reduce(add, parts)

    if record["kind"] == "zscore":
        moments: Moments = summed(_moments_of_share)
        return zscore_intensity(list(zip(moments.mean.tolist(), moments.std.tolist(), strict=True)))
    fixed = HistogramRange.of_dtype(source.dtype)
    if fixed:
        ranges = (fixed,) * source.channel_count
    else:
        moments = summed(_moments_of_share)
        ranges = tuple(
            HistogramRange.between(float(a), float(b))
            for a, b in zip(moments.least, moments.largest, strict=True)
        )
    counts: NDArray[np.int64] = summed(_histogram_of_share, ranges)
    return range_intensity(
        [
            (
                percentile_of(channel, bins, float(record["low"])),
                percentile_of(channel, bins, float(record["high"])),
            )
            for channel, bins in zip(counts, ranges, strict=True)
        ]
    )


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
    volume = open_volume(source)
    for box in boxes_of_share(source.shape_zyx, source.chunk_shape_zyx, share, shares):
        yield volume.read(box)


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
