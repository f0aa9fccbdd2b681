"""Driver and scheduler alone: empty blocks, as many as a volume of 10 TB has.

    python -m benchmarks.scale [--blocks 10000,100000,1000000] [--engines store,map_overlap]

Scheduler, driver and one worker of three threads are separate processes, as in a batch job. The
driver is the real run (plan, regions, ledger, futures in flight); the worker reports each block as
done without computing it. Prints blocks/s, the peak memory of driver and scheduler halfway and at
the end, and the seconds of a second run, which finds all blocks done. The engine `map_overlap` does
the same with its own graph, an empty read, and its exchange of halos.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.base.geometry import Shape
from pipeline.ledger.block_result import BlockResult
from pipeline.segmentation.engines.block import BlockJob

from .measuring import keep, numbers, some_of

SIDE = 64
ROOT = Path(__file__).parents[1]


def count_block(job: BlockJob, index: Shape) -> BlockResult:
    """Report a block as done, as ``pipeline.segmentation.engines.block.segment_block`` would."""
    return BlockResult(
        index=index, voxels=SIDE**3, bytes_read=0, bad_voxels=0, class_voxels=(SIDE**3, 0),
        seconds={"read": 0.0, "wait": 0.0, "device": 0.0, "write": 0.0},
    )  # fmt: skip


def count_chunk(scores: Any, job: BlockJob, first: Shape, blocks: list[Shape]) -> list[BlockResult]:
    """Report the blocks of a chunk as done, as ``engines.graph.write_chunk`` would."""
    return [count_block(job, index) for index in blocks]


def memory_mib(pid: int | str = "self") -> dict[str, float]:
    """Return a process's resident memory, now and at its peak."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {
        name: round(int(found[field].split()[0]) / 1024, 1)
        for name, field in (("now", "VmRSS"), ("peak", "VmHWM"))
    }


def no_scores(
    chunk_czyx: NDArray[Any], *, predictor: Any, halo: Any, **_: Any
) -> NDArray[np.float32]:
    """Return empty scores of a chunk's core, in place of the network's."""
    around = zip(chunk_czyx.shape[1:], halo.low, halo.high, strict=True)
    core = [max(0, n - low - high) for n, low, high in around]
    return np.zeros((len(predictor.class_names), *core), np.float32)


@contextmanager
def started(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield a scheduler's address and process id; it has one worker of three threads."""
    path = folder / "scheduler.json"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    python = [sys.executable, "-m"]
    scheduler = subprocess.Popen(
        [*python, "distributed.cli.dask_scheduler", "--scheduler-file", str(path), "--host",
         "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0"],
        env=environment, **quiet,
    )  # fmt: skip
    while not path.exists():
        time.sleep(0.1)
    address = json.loads(path.read_text())["address"]
    worker = subprocess.Popen(
        [*python, "distributed.cli.dask_worker", address, "--nthreads", "3", "--no-nanny",
         "--resources", "device=3", "--no-dashboard"],
        env=environment, cwd=folder, **quiet,
    )  # fmt: skip
    try:
        yield address, scheduler.pid
    finally:
        for process in (worker, scheduler):
            process.terminate()
            process.wait()


def drive(blocks: int, engine: str, address: str, scheduler: int, folder: Path) -> dict[str, Any]:
    """Return the figures of one run; this process is the driver."""
    from distributed import Client

    from pipeline.segmentation.engines import graph, overlap, store
    from pipeline.segmentation.request import SegmentRequest
    from pipeline.segmentation.run import SegmentRun
    from pipeline.segmentation.sequence import Steps, complete, segment_regions
    from unet import UNetPredictor

    from . import (
        scale,
    )  # functions of an imported module are pickled by name, those of __main__ by value

    store.segment_block = scale.count_block  # type: ignore[attr-defined]
    graph.write_chunk = scale.count_chunk
    overlap._chunk_scores = scale.no_scores
    side = round(blocks ** (1 / 3)) * SIDE
    volume, output = folder / f"{side}.zarr", str(folder / f"{side}-{engine}.zarr")
    zarr.create_array(
        volume, shape=(side,) * 3, chunks=(SIDE,) * 3, dtype="uint8", overwrite=True,
        dimension_names=("z", "y", "x"),
    )  # fmt: skip
    request = SegmentRequest(
        input=str(volume), output=output, block=(SIDE,) * 3, tile=(SIDE,) * 3, engine=engine,
        normalisation={"kind": "none"},
    )  # fmt: skip
    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(1)
        run = SegmentRun.open(request, UNetPredictor("fib25-boundary"), client)
        half: dict[str, Any] = {}

        def watched(run: SegmentRun, region: Any) -> int:
            if not half and run.progress().done * 2 >= run.blocks:
                half.update(driver=memory_mib()["now"], scheduler=memory_mib(scheduler)["now"])
            return run.segment_region(region)

        start = time.perf_counter()
        segment_regions(run, Steps(segment_region=watched))
        seconds = time.perf_counter() - start
        run._ledger.note(
            pyramid="complete"
        )  # there is nothing to reduce, and Zarr is not measured here
        start = time.perf_counter()
        complete(SegmentRun.open(request, UNetPredictor("fib25-boundary"), client))
        again = time.perf_counter() - start
    return {
        "blocks": run.blocks,
        "regions": len(run.regions),
        "seconds": round(seconds, 1),
        "blocks_per_s": round(run.blocks / seconds, 1),
        "driver_mib": memory_mib(),
        "scheduler_mib": memory_mib(scheduler),
        "half_way_mib": half,
        "all_done_already_s": round(again, 1),
    }


def measured(blocks: int, engine: str) -> dict[str, Any]:
    """Return the figures of one run, in fresh processes."""
    with tempfile.TemporaryDirectory() as folder, started(Path(folder)) as (address, scheduler):
        command = [sys.executable, "-m", "benchmarks.scale", "--drive", str(blocks), engine]
        done = subprocess.run(
            [*command, address, str(scheduler), folder],
            cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return figures


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=numbers, default=[10_000, 100_000])
    parser.add_argument("--engines", type=some_of(("store", "map_overlap")), default=["store"])
    parser.add_argument("--name", default="scale", help="name of the results file")
    parser.add_argument("--drive", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.drive:
        blocks, engine, address, scheduler, folder = options.drive
        figures = drive(int(blocks), engine, address, int(scheduler), Path(folder))
        print(json.dumps(figures))
        return
    runs = []
    for engine in options.engines:
        for blocks in options.blocks:
            runs.append({"engine": engine, **measured(blocks, engine)})
            print(runs[-1], flush=True)
    print(keep(options.name, {"runs": runs}))


if __name__ == "__main__":
    main()
