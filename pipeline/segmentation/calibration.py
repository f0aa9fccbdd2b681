"""How long a run will take: a few of its blocks are computed on its cluster, into a scratch output.

Blocks are spread over the volume. The first wave, in which workers load the network, is left out.
"""

from __future__ import annotations

import itertools
import math
import os
import resource
import shutil
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import numpy as np
from distributed import Client

from ..base.errors import RunError
from ..base.geometry import Box, Shape
from ..base.location import Location
from ..base.scheduling import InFlightLimit, run_all
from ..base.stores import open_array, stored_bytes
from ..base.workers import workers_of
from ..ledger.block_result import BlockResult
from ..models.protocol import Predictor, UsesDevice
from ..output.guard import delete_output
from ..output.image_spec import ImageSpec
from ..output.pyramid import reduced
from ..planning.blocks import Region
from .engines.block import BlockJob
from .engines.store import store_outcomes
from .left import share_left
from .prepare import Prepared
from .room import ask_device
from .run import SegmentRun

MEASURE_S: Final = 60.0
COMMAND_S: Final = 4.0
"""The start of the command and its end, with the report: an estimate (6 s on a busy machine)."""
WAVES: Final = 12
"""Blocks per worker thread that are measured at most."""
PARTS: Final = 4
"""Parts of the measurement whose speeds are compared; they give the range."""
LEAST_SPREAD: Final = 0.1
"""The range is at least this much of the time in each direction."""
COARSER: Final = 1.2
"""Voxels that are read for all coarser levels, per voxel of level 0: 1.14 in 3-D, 1.33 in 2-D."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What was measured on a cluster, and the run that follows from it."""

    workers: int
    cores: int
    """Of all machines of the workers."""
    measured_blocks: int
    blocks: int
    """That the run has to compute: without those that are done."""
    setup_s: float
    """From the start of the cluster to the first block, with the measuring of the normalisation."""
    blocks_s: float
    pyramid_s: float
    fastest_s: float
    slowest_s: float
    """The range of the whole run, from the spread of the measurement."""
    worker_memory_bytes: int
    """The largest peak of a worker process."""
    bytes_written: int | None
    """On disk, after compression, all levels; None where the store cannot tell."""

    gpus: int = 0
    """Number of workers with a GPU."""

    @property
    def seconds(self) -> float:
        """The whole run."""
        return self.setup_s + self.blocks_s + self.pyramid_s

    @property
    def device_hours(self) -> float:
        """Hours of all GPUs, or of all cores where there is no GPU."""
        return self.seconds / 3600 * (self.gpus or self.cores)

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {**asdict(self), "seconds": self.seconds, "device_hours": self.device_hours}


@dataclass(frozen=True, slots=True)
class Ended:
    """When a block ended, in seconds, and its voxels."""

    at_s: float
    voxels: int


def calibrate(
    prepared: Prepared, client: Client, *, started_s: float, measure_s: float = MEASURE_S
) -> Calibration:
    """Compute a few blocks of a run that was prepared, and return what the run will take.

    started_s: seconds that the cluster took to start. Writes a scratch output beside the output
    and deletes it. Raises RunError if a block fails, kinds of OvertileError as a run does.
    """
    scratch = _scratch(prepared.request.output)
    request = replace(
        prepared.request, output=scratch, overwrite=False, shard=None, into_input=False,
        block=prepared.plan.core, tile=prepared.plan.tile, traversal=prepared.plan.traversal,
    )  # fmt: skip
    began = time.monotonic()
    try:
        run = SegmentRun.start(replace(prepared, request=request, output_action="created"), client)
        setup_s = started_s + time.monotonic() - began
        return _measured(prepared, run, client, setup_s=setup_s, measure_s=measure_s)
    finally:
        delete_output(scratch)


def _measured(
    prepared: Prepared, run: SegmentRun, client: Client, *, setup_s: float, measure_s: float
) -> Calibration:
    threads = sum(client.nthreads().values())
    indices, left = list(prepared.indices()), share_left(prepared)
    chosen = spread(indices, WAVES * threads)
    ended, results = [], []
    for at_s, batch in _computed(run.job, chosen, client, measure_s=measure_s):
        results += batch
        ended += [Ended(at_s, _voxels(run.job, result)) for result in batch]
    peak = max(client.run(_peak_bytes).values())
    pyramid_s = _pyramid_s(run.job, prepared.images, results, client) * len(indices) * left
    speed = voxels_per_s(ended, threads=threads)
    spread_of_speed = relative_spread(ended, threads=threads)
    blocks_s = warm_up_s(ended, speed, threads=threads) + prepared.voxels * left / speed
    setup_s += COMMAND_S
    whole_s = setup_s + blocks_s + pyramid_s / max(1, len(workers_of(client)))
    return Calibration(
        workers=len(workers_of(client)),
        cores=_cores(client),
        measured_blocks=len(results),
        blocks=round(len(indices) * left),
        setup_s=setup_s,
        blocks_s=blocks_s,
        pyramid_s=pyramid_s / max(1, len(workers_of(client))),
        fastest_s=whole_s / (1 + spread_of_speed),
        slowest_s=whole_s * (1 + spread_of_speed),
        worker_memory_bytes=peak,
        bytes_written=_bytes_written(run.job, prepared, results),
        gpus=_gpus(client, prepared.predictor),
    )


def _voxels(job: BlockJob, result: BlockResult) -> int:
    """Return the voxels of a block; one that was skipped for constant input counts like others."""
    return job.plan.block(result.index).core.voxels


def spread(indices: Sequence[Shape], most: int) -> list[Shape]:
    """Return at most ``most`` blocks, evenly spaced over all, in an order that mixes them."""
    count = min(len(indices), most)
    chosen = [indices[round((i + 0.5) * len(indices) / count - 0.5)] for i in range(count)]
    order = np.random.default_rng(0).permutation(count)
    return [chosen[i] for i in order]


def _computed(
    job: BlockJob, indices: list[Shape], client: Client, *, measure_s: float
) -> Iterator[tuple[float, list[BlockResult]]]:
    """Yield (seconds since the start, results) as blocks end, for about ``measure_s``."""
    stop, limit = threading.Event(), InFlightLimit(client)
    whole = Region(0, Box.of_shape(job.plan.grid))
    began = time.monotonic()
    for batch in store_outcomes(
        job, whole, indices, client=client, limit=limit, stop=stop, retries=0
    ):
        if batch.failures:
            stop.set()
            raise RunError(f"a block failed: {batch.failures[0][1]}")
        now = time.monotonic() - began
        yield now, batch.results
        if now > measure_s:
            stop.set()


def voxels_per_s(ended: Sequence[Ended], *, threads: int) -> float:
    """Return the speed of all workers together: the slope of the voxels done over time.

    The first wave of blocks does not count, since workers load the network in it. The blocks that
    ended last, when workers had nothing more to start, do not count either.
    """
    first, last = _window(len(ended), threads)
    counted = ended[first : last + 1]
    if len(counted) < 3 or counted[-1].at_s <= counted[0].at_s:
        return sum(one.voxels for one in ended) / max(ended[-1].at_s, 1e-9)
    done = np.cumsum([one.voxels for one in counted])
    return float(np.polyfit([one.at_s for one in counted], done, 1)[0])


def warm_up_s(ended: Sequence[Ended], speed: float, *, threads: int) -> float:
    """Return the seconds by which the first wave takes longer than later ones."""
    first, _ = _window(len(ended), threads)
    wave = sum(one.voxels for one in ended[: first + 1])
    return max(0.0, ended[first].at_s - wave / speed)


def _window(count: int, threads: int) -> tuple[int, int]:
    """Return the places of the first and the last block that count."""
    first = min(threads, count // 3)
    return first, max(first, count - 1 - min(threads, count // 4))


def relative_spread(ended: Sequence[Ended], *, threads: int) -> float:
    """Return the uncertainty of the speed, as a fraction: twice its standard error over parts."""
    first, last = _window(len(ended), threads)
    bounds = [first + (last - first) * part // PARTS for part in range(PARTS + 1)]
    speeds = [
        sum(one.voxels for one in ended[a + 1 : b + 1]) / max(ended[b].at_s - ended[a].at_s, 1e-9)
        for a, b in itertools.pairwise(bounds)
        if b > a
    ]
    if len(speeds) < PARTS:
        return 0.5
    error = statistics.stdev(speeds) / statistics.fmean(speeds) / math.sqrt(len(speeds))
    return max(LEAST_SPREAD, 2 * error)


def _pyramid_s(
    job: BlockJob, images: Sequence[ImageSpec], results: Sequence[BlockResult], client: Client
) -> float:
    """Return the seconds of a worker for the coarser levels, per block of level 0."""
    deep = [image for image in images if len(image.shapes) > 1]
    some = results[: max(2, len(workers_of(client)))]
    if not deep or not some:
        return 0.0
    calls = [(coarsen_s, (job, image, result.index)) for image in deep for result in some]
    measured: list[float] = run_all(
        client, calls, key="measure-pyramid", token=job.run_token, stop=threading.Event()
    )
    return COARSER * sum(measured) / len(some)


def coarsen_s(job: BlockJob, image: ImageSpec, index: Shape) -> float:
    """Return the seconds to read a block that was written and to reduce it to the next level."""
    began = time.perf_counter()
    array = open_array(job.output, image.level_path(0), token=job.run_token)
    core = job.plan.block(index).core
    spatial = array.ndim - image.axes.count("c")
    channels = (slice(None),) * image.axes.count("c")
    values = np.asarray(array[channels + core.slices[3 - spatial :]])
    factor = tuple(
        1 if n == m else 2 for n, m in zip(image.shapes[0], image.shapes[1], strict=True)
    )
    reduced(values, factor, "majority" if image.is_label else "mean")
    return time.perf_counter() - began


def _bytes_written(job: BlockJob, prepared: Prepared, results: Sequence[BlockResult]) -> int | None:
    """Return the compressed size of the whole output, from that of the measured blocks."""
    voxels = sum(_voxels(job, result) for result in results)
    sizes = [stored_bytes(job.output, image.level_path(0)) for image in prepared.images]
    if None in sizes or not voxels:
        return None
    return round(sum(size or 0 for size in sizes) * COARSER * prepared.voxels / voxels)


def _peak_bytes() -> int:
    """Return the largest resident size of this process so far.

    On Linux not ``ru_maxrss``, which starts with the size of the parent process.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _gpus(client: Client, predictor: Predictor) -> int:
    """Return how many workers compute on a GPU."""
    if isinstance(predictor, UsesDevice):
        return len(workers_of(client)) if ask_device(client, predictor) is not None else 0
    return sum(client.run(_has_gpu).values())


def _has_gpu() -> bool:
    """Return whether this worker may compute on a GPU: its driver is there and not hidden."""
    return shutil.which("nvidia-smi") is not None and os.environ.get("CUDA_VISIBLE_DEVICES") != ""


def _cores(client: Client) -> int:
    """Return the cores, of all machines, on which any worker may run."""
    found: dict[str, list[tuple[str, int]]] = client.run(_own_cores)
    return len(set(itertools.chain.from_iterable(found.values())))


def _own_cores() -> list[tuple[str, int]]:
    return [(socket.gethostname(), core) for core in os.sched_getaffinity(0)]


def _scratch(output: Location) -> Location:
    """Return a place beside the output, on the same disk."""
    parent = output.parent
    name = f"{output.name}.measure-{uuid4().hex[:8]}"
    return Location(f"{output.uri}.measure-{uuid4().hex[:8]}") if parent is None else parent / name
