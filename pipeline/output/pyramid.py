"""Coarser levels of what was written: each shard has one writer here too.

Scores are averaged. Labels take the most frequent value of the voxels that they stand for, and of
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
from ..base.location import Location
from ..base.scheduling import run_all
from ..base.stores import open_array, open_shards
from .cells import CellDigest, written_cell
from .copied_cells import copied_cell
from .kinds import Reduction

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierLevel:
    """The same level of an earlier output, with the digests of the shards that can be copied.

    digests: per shard, 0 where it must be computed: a source has changed, or none is recorded.
    """

    output: Location
    path: str
    digests: NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelJob:
    """One level, made from the next finer one; shapes have all axes of the array."""

    output: Location
    run_token: str
    finer_path: str
    path: str
    shape: Shape
    factor: Shape
    """Voxels of the finer level per voxel of this one, per axis; 1 or 2."""
    shard: Shape
    chunk: Shape
    reduction: Reduction
    earlier: EarlierLevel | None = None


def build_level(client: Client, job: LevelJob, *, stop: threading.Event) -> list[CellDigest]:
    """Write one level: a few tasks per worker thread, however large the level is.

    Returns the digests of its shards.
    """
    shards = int(np.prod([-(-n // s) for n, s in zip(job.shape, job.shard, strict=True)]))
    shares = max(1, min(shards, 2 * sum(client.nthreads().values())))
    calls = [(write_share, (job, share, shares)) for share in range(shares)]
    token = f"{job.run_token}-{job.path.replace('/', '-')}"
    written = run_all(client, calls, key="build-pyramid", token=token, stop=stop)
    return list(itertools.chain.from_iterable(written))


def write_share(job: LevelJob, share: int, shares: int) -> list[CellDigest]:
    """Write every ``shares``-th shard of a level, from ``share`` on; return their digests."""
    starts = itertools.product(*(range(0, n, s) for n, s in zip(job.shape, job.shard, strict=True)))
    return [
        _copied_shard(job, start) or write_shard(job, start)
        for start in itertools.islice(starts, share, None, shares)
    ]


def _copied_shard(job: LevelJob, start: Shape) -> CellDigest | None:
    """Copy a shard from the earlier output; None where it must be computed, or is damaged there."""
    earlier = job.earlier
    index = tuple(a // s for a, s in zip(start, job.shard, strict=True))
    if earlier is None or not earlier.digests[index]:
        return None
    coarser = open_shards(job.output, job.path, token=job.run_token)
    cell = copied_cell(
        coarser, job.path, box=_shard_box(job, start), size=job.shard, source=earlier.output,
        source_path=earlier.path,
    )  # fmt: skip
    return cell if cell.value == earlier.digests[index] else None


def _shard_box(job: LevelJob, start: Shape) -> Box:
    stop = tuple(a + s for a, s in zip(start, job.shard, strict=True))
    return Box(start, stop).clipped_to(Box.of_shape(job.shape))


def write_shard(job: LevelJob, start: Shape) -> CellDigest:
    """Fill one shard, chunk by chunk, and write it in one go; what is 0 is not stored."""
    finer = open_array(job.output, job.finer_path, token=job.run_token)
    coarser = open_shards(job.output, job.path, token=job.run_token)
    shard = _shard_box(job, start)
    values = np.zeros(shard.shape, coarser.dtype)
    for chunk in _chunks(shard, job.chunk):
        source = Box(
            tuple(a * f for a, f in zip(chunk.start, job.factor, strict=True)),
            tuple(b * f for b, f in zip(chunk.stop, job.factor, strict=True)),
        ).clipped_to(Box.of_shape(finer.shape))
        part = np.asarray(finer[source.slices])
        if part.any():  # large parts may be background
            place = chunk.relative_to(shard.start).slices
            values[place] = reduced(part, job.factor, job.reduction)
    coarser[shard.slices] = values
    return written_cell(coarser, job.path, box=shard, size=job.shard)


def _chunks(shard: Box, chunk: Shape) -> Iterator[Box]:
    ranges = (range(a, b, c) for a, b, c in zip(shard.start, shard.stop, chunk, strict=True))
    for start in itertools.product(*ranges):
        yield Box(start, tuple(a + c for a, c in zip(start, chunk, strict=True))).clipped_to(shard)


def reduced(values: NDArray[Any], factor: Shape, reduction: Reduction) -> NDArray[Any]:
    """Return ``values`` with ``factor`` voxels per axis reduced to one.

    factor: 1 or 2 per axis. At the far edge of an odd axis a result stands for fewer voxels.
    """
    return mean(values, factor) if reduction == "mean" else majority(values, factor)


def mean(values: NDArray[Any], factor: Shape) -> NDArray[Any]:
    """Return the mean of each window in float32, rounded to the nearest integer for integers."""
    padding = [(0, -n % f) for n, f in zip(values.shape, factor, strict=True)]
    padded = np.pad(values.astype(np.float32), padding, constant_values=np.nan)
    split = [size for n, f in zip(padded.shape, factor, strict=True) for size in (n // f, f)]
    axes = len(factor)
    windows = padded.reshape(split).transpose([*range(0, 2 * axes, 2), *range(1, 2 * axes, 2)])
    means = np.nanmean(windows.reshape(*windows.shape[:axes], -1), axis=-1)
    return (np.rint(means) if values.dtype.kind in "iu" else means).astype(values.dtype)


def majority(labels: NDArray[Any], factor: Shape) -> NDArray[Any]:
    """Return the most frequent label of each window; of equally frequent ones the highest.

    Exact for integers of any width: labels are only compared. The edge is repeated where a window
    is incomplete: this doubles every label of the window, so that the result stays the same.
    """
    padding = [(0, -n % f) for n, f in zip(labels.shape, factor, strict=True)]
    padded = np.pad(labels, padding, mode="edge")
    offsets = itertools.product(*map(range, factor))
    ordered = _ordered([padded[_every(factor, start=offset)] for offset in offsets])
    best = ordered[0].copy()
    longest = run = np.ones(best.shape, np.uint8)
    for before, label in itertools.pairwise(ordered):
        run = np.where(label == before, run + np.uint8(1), np.uint8(1))
        best = np.where(run >= longest, label, best)
        longest = np.maximum(run, longest)
    return best


def _every(step: Shape, *, start: Shape) -> tuple[slice, ...]:
    return tuple(slice(a, None, s) for a, s in zip(start, step, strict=True))


def _ordered(arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Sort voxel by voxel: the first array returned holds the lowest values, the last the highest.

    An odd-even transposition sort of whole arrays: several times as fast as ``np.sort`` along an
    axis of eight.
    """
    for turn in range(len(arrays)):
        for i in range(turn % 2, len(arrays) - 1, 2):
            one, other = arrays[i], arrays[i + 1]
            arrays[i], arrays[i + 1] = np.minimum(one, other), np.maximum(one, other)
    return arrays
