"""The engine ``map_overlap``: one ``dask.array.map_overlap`` graph per region.

Workers exchange halos.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np
from distributed import Client, Future
from numpy.typing import NDArray

from ...base.geometry import Box, Shape
from ...base.scheduling import drive, reason
from ...ledger.block_result import BlockResult
from ...models.host_path import stored_of
from ...planning.blocks import Region
from ...volume.volume import open_volume
from .block import BlockJob, BlockSink, count_bad
from .overlap import graph_chunk, graph_halo, overlapped_scores
from .store import Batch
from .tile import StageClock


def graph_outcomes(
    job: BlockJob,
    region: Region,
    left: Sequence[Shape],
    *,
    client: Client,
    limit: Callable[[], int],
    stop: threading.Event,
    retries: int,
) -> Iterator[Batch]:
    """Yield batches of ended blocks; one graph for the region."""
    writes = _region_graph(job, region, set(left))
    futures = client.compute([write for _, write in writes], retries=retries)
    pairs = list(zip([blocks for blocks, _ in writes], futures, strict=True))

    def futures_of(some: list[tuple[list[Shape], Future]]) -> list[Future]:
        return [future for _, future in some]

    for outcomes in drive(client, iter(pairs), futures_of, limit=lambda: len(pairs) + 1, stop=stop):
        yield Batch(
            [result for o in outcomes if o.error is None for result in o.result],
            [(i, reason(o)) for o in outcomes if o.error is not None for i in o.item[0]],
        )


def _region_graph(job: BlockJob, region: Region, left: set[Shape]) -> list[tuple[list[Shape], Any]]:
    """Return, for each chunk of the region's graph with blocks left, these and their task."""
    chunk = graph_chunk(job.plan, graph_halo(job.predictor, job.plan))
    blocks_per_chunk = tuple(n // c for n, c in zip(chunk, job.plan.core, strict=True))
    x_czyx = lazy_volume(job)
    scores = overlapped_scores(x_czyx, region.blocks, job.predictor, job.plan, job.intensity)
    group = f"write-block-{job.run_token}-{region.number}"
    writes = []
    for position, piece in zip(
        itertools.product(*map(range, scores.numblocks[1:])),
        scores.to_delayed().ravel(),
        strict=True,
    ):
        first = tuple(
            a + p * n
            for a, p, n in zip(region.blocks.start, position, blocks_per_chunk, strict=True)
        )
        stop = tuple(a + n for a, n in zip(first, blocks_per_chunk, strict=True))
        held = Box(first, stop).clipped_to(region.blocks)
        ranges = (range(a, b) for a, b in zip(held.start, held.stop, strict=True))
        blocks = [index for index in itertools.product(*ranges) if index in left]
        if blocks:
            call = dask.delayed(write_chunk, pure=False)
            writes.append(
                (blocks, call(piece, job, first, blocks, dask_key_name=(group, *position)))
            )
    return writes


def write_chunk(
    scores_czyx: NDArray[np.float32], job: BlockJob, first: Shape, blocks: list[Shape]
) -> list[BlockResult]:
    """Write some blocks from the scores of a chunk whose first block is ``first``."""
    origin = job.plan.block(first).core.start
    results = []
    for index in blocks:
        core = job.plan.block(index).core
        clock = StageClock()
        sink = BlockSink(job.outputs, core, len(job.predictor.class_names))
        scores = scores_czyx[(slice(None), *core.relative_to(origin).slices)]
        sink.put(core, stored_of(scores, job.tile_work.outputs))
        bad = 0
        if np.dtype(job.source.dtype).kind == "f":
            with clock.stage("read"):
                bad = count_bad(open_volume(job.source).read(core))
        with clock.stage("write"):
            digests = sink.write(job)
        results.append(
            BlockResult(
                index=index,
                voxels=core.voxels,
                bytes_read=0,
                bad_voxels=bad,
                class_voxels=sink.class_voxels(),
                seconds=clock.seconds,
                digests=digests,
            )
        )
    return results


@dataclass(frozen=True, slots=True)
class _StoredVolume:
    """A volume as dask.array needs it, with shape, dtype and getitem; each read opens it."""

    job: BlockJob

    @property
    def shape(self) -> Shape:
        return (self.job.source.channel_count, *self.job.source.shape_zyx)

    @property
    def ndim(self) -> int:
        return 4

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.job.source.dtype)

    def __getitem__(self, place: tuple[slice, ...]) -> NDArray[Any]:
        ranges = [s.indices(n) for s, n in zip(place[1:], self.shape[1:], strict=True)]
        box = Box(tuple(a for a, _, _ in ranges), tuple(b for _, b, _ in ranges))
        with StageClock().stage("read"):
            return open_volume(self.job.source).read(box)[place[0]]


def lazy_volume(job: BlockJob) -> Any:
    """Return the input as a dask array (c, z, y, x) with the plan's blocks as chunks."""
    stored = _StoredVolume(job)
    chunks = (
        stored.shape[0],
        *(min(c, n) for c, n in zip(job.plan.core, stored.shape[1:], strict=True)),
    )
    return da.from_array(
        stored, chunks=chunks, name=f"read-volume-{job.run_token}", asarray=False, fancy=False,
        meta=np.empty((0,) * 4, stored.dtype),
    )  # fmt: skip
