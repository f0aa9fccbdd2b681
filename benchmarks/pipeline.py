"""``overtile segment``, Zarr to Zarr, against the network alone over tiles in memory.

    python -m benchmarks.pipeline [--cases NAME,…] [--rounds N] [--long]

The command segments a volume of noise on a warm Dask cluster of this machine; its time is the run's
own, from open to finish. The bare loop (bare_loop.py) is bfloat16, channels-last, with the whole
volume in memory, in three forms: one process with a thread per core, and one process per core, both
with cores of 512² in 2-D and the plan's tiles in 3-D; and one process per core with the plan's
tiles. All keep freed memory as overtile's workers do. Prints overtile's time over the better of the
first two and over the last, and the seconds per stage of the workers.

--long makes the volumes deeper: more than 60 s of work on two cores, half an hour in all. The bare
loop computes a part of the volume, and its time is extrapolated.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from numpy.typing import NDArray

from deploy import open_cluster
from deploy.clusters.machine import cores
from deploy.clusters.worker_environment import KEPT_MEMORY
from flows.options.segment import SegmentOptions
from pipeline.base.choices import Traversal
from pipeline.base.location import Location
from pipeline.ledger.status import read_status
from pipeline.segmentation.prepare import Prepared, prepare
from unet import UNet, UNetConfig, save_weights

from . import bare_loop
from .bare_loop import BareLoop
from .measuring import (
    at_least_one,
    cases_kept,
    commit,
    digits,
    in_turn,
    keep,
    ratios,
    some_of,
    spread,
)


@dataclass(frozen=True, slots=True)
class Case:
    """A network, and a volume that suits it."""

    network: UNetConfig
    shape: tuple[int, int, int]
    core: tuple[int, int, int] | None
    """Of the bare loop; None: the plan's tile."""
    long: int
    """The factor of depth that makes more than 60 s of work on two cores."""


CASES = {
    "2-D base 32": Case(
        UNetConfig(dims=2, base_channels=32, levels=5), (4, 1024, 1536), (1, 512, 512), 10
    ),
    "2-D base 64": Case(
        UNetConfig(dims=2, base_channels=64, levels=5), (2, 1024, 1024), (1, 512, 512), 8
    ),
    "3-D base 32": Case(UNetConfig(dims=3, base_channels=32, levels=4), (128, 128, 256), None, 7),
}
MEMORY_GIB = 2.0
SAME_MEMORY = ("--tile-memory", f"{MEMORY_GIB:g}")
"""As other tools have, and as the plan is made here."""
STAGES = ("read", "wait", "device", "write")


def noise(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return random grey values around the middle of the range."""
    rng, out = np.random.default_rng(0), np.empty(shape, np.uint8)
    for plane in out:  # plane by plane, to save memory
        plane[:] = rng.normal(128, 12, shape[1:]).clip(0, 255)
    return out


class Place:
    """A folder with a case's weights and volume."""

    def __init__(self, folder: Path, case: Case, *, repeat: int) -> None:
        self.folder, self.case = folder, case
        self.weights = str(folder / "w.safetensors")
        self.shape = (case.shape[0] * repeat, *case.shape[1:])
        torch.manual_seed(0)
        save_weights(UNet(case.network), self.weights, normalisation={"kind": "dtype"})
        raw = noise(self.shape)
        depth = min(8, len(raw))
        zarr.create_array(
            folder / "raw.zarr", data=raw, chunks=(depth, 128, 128), shards=(depth, 256, 512),
            dimension_names=("z", "y", "x"),
        )  # fmt: skip
        self.runs = 0

    def prepared(self, traversal: Traversal = "auto") -> Prepared:
        """Return overtile's plan and its cost; tools that only know tiles take those of "tiles"."""
        options = SegmentOptions(traversal=traversal, tile_memory_gib=MEMORY_GIB)
        request = options.request(
            input=str(self.folder / "raw.zarr"), output=str(self.folder / "planned.zarr")
        )
        return prepare(request, options.predictor(self.weights))

    def bare_part(self, prepared: Prepared) -> tuple[str, float]:
        """Write the bare loop's input; return its path, and the volume's time over its time.

        A plane per core, or in 3-D one of the plan's tiles: the same work for each process.
        """
        path, many = str(self.folder / "raw.npy"), max(2, cores())
        if self.case.network.dims == 2:
            np.save(path, noise((many, *self.shape[1:])))
            return path, self.shape[0] / many
        z, y, x = prepared.plan.tile
        np.save(path, noise((many * z, y, x)))
        return path, prepared.budget.flops / (many * prepared.predictor.flops((z, y, x)))

    def segment(self, address: str, *options: str, code: str = "") -> str:
        """Segment the volume with the command; return the output's path.

        options: more of the command's. code: the folder of another checkout, whose code is run.
        """
        self.runs += 1
        output = str(self.folder / f"out{self.runs}.zarr")
        raw = str(self.folder / "raw.zarr")
        command = [sys.executable, "-P", "-m", "flows.cli", "segment", raw]
        words = [*command, output, "--weights", self.weights, "--cluster", address, *options]
        place = {"PYTHONPATH": code} if code else {}
        subprocess.run(words, check=True, capture_output=True, env={**os.environ, **place})
        return output


def measured(case: Case, *, rounds: int, repeat: int) -> dict[str, Any]:
    """Return the figures of one case."""
    with tempfile.TemporaryDirectory() as name, open_cluster("local", tls="off") as client:
        place = Place(Path(name), case, repeat=repeat)
        prepared = place.prepared("tiles")
        tile, (bare_raw, times) = prepared.plan.tile, place.bare_part(prepared)
        address, workers = client.scheduler.address, len(client.nthreads())
        place.segment(
            address, *SAME_MEMORY
        )  # warm up: workers keep the memory of their first tiles
        figures: list[dict[str, Any]] = []
        commands: list[float] = []

        def ours() -> float:
            start = time.perf_counter()
            status = read_status(Location.parse(place.segment(address, *SAME_MEMORY)))
            commands.append(time.perf_counter() - start)
            figures.append(status.figures.to_json())
            return status.figures.seconds

        def loop(core: tuple[int, int, int], processes: int) -> Callable[[], float]:
            job = BareLoop(
                weights=place.weights, raw=bare_raw, core=core, environment=KEPT_MEMORY,
                processes=processes, threads=max(1, cores() // processes),
            )  # fmt: skip
            return lambda: times * bare_loop.seconds(job)

        core = case.core or tile
        cases = {
            "overtile": ours,
            "bare, 1 process": loop(core, 1),
            "bare, process per core": loop(core, cores()),
        }
        if core != tile:
            cases["bare, our tiles"] = loop(tile, cores())
        seconds = in_turn(cases, rounds=rounds, warm=0)
    better = min(
        ("bare, 1 process", "bare, process per core"),
        key=lambda name: statistics.median(seconds[name]),
    )
    plain = seconds.get("bare, our tiles", seconds["bare, process per core"])
    busy = [each["stage_seconds"]["device"] / (workers * each["seconds"]) for each in figures]
    stages = figures[-1]["stage_seconds"]
    return {
        "shape": list(place.shape),
        "bare_loop_times": digits(times),
        "tile": list(tile),
        "bare_core": list(core),
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "command_seconds": spread(commands),
        "better": better,
        "over_bare": ratios(seconds["overtile"], seconds[better]),
        "over_bare_of_our_tiles": ratios(seconds["overtile"], plain),
        "workers": workers,
        "device_share": spread(busy),
        "stage_seconds": {stage: stages[stage] for stage in STAGES},
        "commit": commit(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=some_of(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=at_least_one, default=5)
    parser.add_argument("--long", action="store_true")
    options = parser.parse_args()
    file = "pipeline-long" if options.long else "pipeline"
    figures = cases_kept(file)
    for name in options.cases:
        repeat = CASES[name].long if options.long else 1
        figures[name] = found = measured(CASES[name], rounds=options.rounds, repeat=repeat)
        medians = {case: values["median"] for case, values in found["seconds"].items()}
        print(f"{name}, tile {found['tile']}: {medians}\n  stages {found['stage_seconds']}")
        print(
            f"  overtile / {found['better']}: {found['over_bare']['median']:.2f}, / the same tiles "
            f"in memory: {found['over_bare_of_our_tiles']['median']:.2f}",
            flush=True,
        )
        kept = keep(file, {"cases": {case: figures[case] for case in CASES if case in figures}})
    print(kept)


if __name__ == "__main__":
    main()
