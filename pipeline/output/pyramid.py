"""Coarser levels of what was written: each shard has one writer here too.

Scores are averaged. Classes take the most frequent value of the voxels that they stand for, and of
equally frequent ones the highest, so that thin structures stay visible; they are never averaged.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..base.geometry import Box, Shape
from ..base.scheduling import run_all
from ..base.stores import open_array
from .kinds import Reduction

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelJob:
    """One level, made from the next finer one; shapes have all axes of the array."""

    output_uri: str
    run_token: str
    finer_path: str
    path: str
    shape: Shape
    factor: Shape
    """Voxels of the finer level per voxel of this one, per axis; 1 or 2."""
    shard: Shape
    chunk: Shape
    reduction: Reduction


def build_level(client: Client, job: LevelJob, *, stop: threading.Event) -> None:
    """Write one level: a few tasks per worker thread, however large the level is."""
    shards = int(np.prod([-(-n // s) for n, s in zip(job.shape, job.shard, strict=True)]))
    shares = max(1, min(shards, 2 * sum(client.nthreads().values())))
    calls = [(write_share, (job, share, shares)) for share in range(shares)]
    token = f"{job.run_token}-{job.path.replace('/', '-')}"
    run_all(client, calls, key="build-pyramid", token=token, stop=stop)


def write_share(job: LevelJob, share: int, shares: int) -> int:
    """Write every ``shares``-th shard of a level, from ``share`` on; return how many."""
    starts = itertools.product(*(range(0, n, s) for n, s in zip(job.shape, job.shard, strict=True)))
    written = 0
    for start in itertools.islice(starts, share, None, shares):
        write_shard(job, start)
        written += 1
    return written


def write_shard(job: LevelJob, start: Shape) -> None:
    """Fill one shard, chunk by chunk, and write it in one go."""
    finer = open_array(job.output_uri, job.finer_path, token=job.run_token)
    coarser = open_array(job.output_uri, job.path, token=job.run_token)
    stop = tuple(a + s for a, s in zip(start, job.shard, strict=True))
    shard = Box(start, stop).clipped_to(Box.of_shape(job.shape))
    values = np.zeros(shard.shape, coarser.dtype)
    for chunk in _chunks(shard, job.chunk):
        source = Box(
            tuple(a * f for a, f in zip(chunk.start, job.factor, strict=True)),
            tuple(b * f for b, f in zip(chunk.stop, job.factor, strict=True)),
        ).clipped_to(Box.of_shape(finer.shape))
        place = chunk.relative_to(shard.start).slices
        values[place] = reduced(np.asarray(finer[source.slices]), job.factor, job.reduction)
    coarser[shard.slices] = values


def _chunks(shard: Box, chunk: Shape) -> Iterator[Box]:
    ranges = (range(a, b, c) for a, b, c in zip(shard.start, shard.stop, chunk, strict=True))
    for start in itertools.product(*ranges):
        yield Box(start, tuple(a + c for a, c in zip(start, chunk, strict=True))).clipped_to(shard)


def reduced(values: NDArray[Any], factor: Shape, reduction: Reduction) -> NDArray[Any]:
    """Return ``values`` with ``factor`` voxels per axis made one; the last may stand for fewer."""
    windows = _windows(values, factor)
    if reduction == "mean":
        mean = np.nanmean(windows, axis=-1)
        return (np.rint(mean) if values.dtype.kind in "iu" else mean).astype(values.dtype)
    highest = int(values.max(initial=0))
    best = np.zeros(windows.shape[:-1], values.dtype)
    best_count = np.zeros(windows.shape[:-1], np.uint8)
    for value in range(highest + 1):
        count = (windows == value).sum(axis=-1, dtype=np.uint8)
        better = count >= np.maximum(best_count, 1)
        best[better] = value
        best_count[better] = count[better]
    return best


def _windows(values: NDArray[Any], factor: Shape) -> NDArray[np.float32]:
    """Return float32 (…, window): the voxels that each coarser voxel stands for, NaN where none."""
    padding = [(0, -n % f) for n, f in zip(values.shape, factor, strict=True)]
    padded = np.pad(values.astype(np.float32), padding, constant_values=np.nan)
    split = [size for n, f in zip(padded.shape, factor, strict=True) for size in (n // f, f)]
    axes = len(factor)
    windows = padded.reshape(split).transpose([*range(0, 2 * axes, 2), *range(1, 2 * axes, 2)])
    return windows.reshape(*windows.shape[:axes], -1)
