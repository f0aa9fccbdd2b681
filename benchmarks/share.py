"""Share of the ideal, Zarr to Zarr, of overtile and of other tools with as much memory per worker.

    python -m benchmarks.share [--cases NAME,…] [--precisions bf16,fp32] [--memory GIB] [--rounds N]
        [--tools NAME,…] [--old FOLDER] [--shape Z,Y,X]     (pip install 'overtile[bench]')

Share = (operations per voxel of an infinite tile × voxels) / (seconds × matrix rate of two threads,
measured in the same rounds). Each tool has two threads, and for one tile per worker the memory of
``--memory``; MONAI is one process of two threads and may take twice as much. Of what fits, each
tool gets the tile of the least work for this volume and two workers. Seconds are those of the work
alone, as in peers.py, whose other settings hold too. The peaks of the processes are printed: they
contain libraries and blocks.

- overtile: as planned for that memory; ``default``: as planned without options
- old: the checkout in the folder of ``--old``, on a cluster of its code, with the same memory
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from distributed import Client

from deploy import open_cluster
from pipeline.base.text import shape_text
from pipeline.planning.tile_choice import choose_tile
from unet import UNetConfig, UNetPredictor

from .ideal import ideal_flops
from .limit import SIZE
from .measuring import (
    at_least_one,
    cases_kept,
    digits,
    in_turn,
    keep,
    needs,
    peak_mib,
    ratios,
    restart_with_memory_kept,
    run_record,
    some_of,
    spread,
)  # fmt: skip
from .network import PRECISIONS
from .peer_tools import THREADS, Peers
from .pipeline import Case, Place

CASES = {
    "2-D base 32": Case(UNetConfig(dims=2, base_channels=32, levels=5), (24, 1024, 1536), None, 1),
    "3-D base 32": Case(UNetConfig(dims=3, base_channels=32, levels=4), (512, 384, 384), None, 1),
}
"""Volumes with a minute of work in bfloat16, for two cores of some 800 GFLOP/s."""
SMALL = {2: (2, 1024, 1024), 3: (64, 128, 256)}
"""Volumes that warm up the workers of both overtiles; the other tools do so in each run."""
TOOLS = ("overtile", "default", "old", "daisy", "MONAI")
OLD_CLUSTER = """
import sys
from dataclasses import fields
from deploy import ClusterSpec, open_cluster
if __name__ == "__main__":
    plain = {"tls": "off"} if "tls" in {field.name for field in fields(ClusterSpec)} else {}
    with open_cluster("local", workers=int(sys.argv[1]), **plain) as client:
        print(client.scheduler.address, flush=True)
        sys.stdin.read()
"""


class Run:
    """The tools on one volume in one precision."""

    def __init__(self, place: Place, client: Client, *, precision: str, memory_gib: float) -> None:
        self.place, self.client = place, client
        self.precision, self.memory_gib = precision, memory_gib
        self.peaks: dict[str, list[int]] = {}
        self.outputs: dict[str, str] = {}
        self.plans: dict[str, dict[str, Any]] = {}
        """Block, tile and traversal of each overtile."""
        predictor = UNetPredictor(place.weights, precision=precision, device="cpu")  # type: ignore[arg-type]
        memory = int(memory_gib * 2**30)
        self.tiles = {
            "daisy": choose_tile(place.shape, predictor, memory_bytes=memory, workers=(THREADS,)),
            "MONAI": choose_tile(place.shape, predictor, memory_bytes=THREADS * memory),
        }
        self.peers = {
            name: Peers(place, tile, precision=precision)  # type: ignore[arg-type]
            for name, tile in self.tiles.items()
        }

    def overtile(self) -> float:
        seconds = self._segment("overtile", "--tile-memory", f"{self.memory_gib:g}")
        self.peaks["overtile"] = sorted(self.client.run(peak_mib).values())
        return seconds

    def default(self) -> float:
        return self._segment("default")

    def old(self, code: str, address: str) -> float:
        words = ("--tile-memory", f"{self.memory_gib:g}")
        return self._segment("old", *words, address=address, code=code)

    def _segment(self, name: str, *words: str, address: str = "", code: str = "") -> float:
        address = address or self.client.scheduler.address
        words = (*words, "--precision", self.precision)
        self.outputs[name] = output = self.place.segment(address, *words, code=code)
        with Client(address) as client:
            client.run(give_memory_back)  # the other tools start from nothing, and need the room
        status = status_of(output, code=code)
        job = status["job"]
        self.plans[name] = {
            "block": job["block"], "tile": job["tile"],
            "traversal": job.get("traversal", "tiles"),
        }  # fmt: skip
        return float(status["figures"]["seconds"])

    def daisy(self) -> float:
        seconds = self.peers["daisy"].daisy()
        self.peaks["daisy"] = self.peers["daisy"].peaks_mib
        return seconds

    def monai(self) -> float:
        seconds = self.peers["MONAI"].monai()
        self.peaks["MONAI"] = self.peers["MONAI"].peaks_mib
        return seconds

    def agreement(self) -> dict[str, float]:
        """Return the share of voxels of each tool that have overtile's class."""
        ours = _classes(self.outputs["overtile"] + "/labels/classes/0")
        paths = {name: f"{path}/labels/classes/0" for name, path in self.outputs.items()}
        folder = self.place.folder
        paths |= {name: str(folder / f"{name.lower()}.zarr") for name in ("daisy", "MONAI")}
        return {
            name: digits(float(np.mean(_classes(path) == ours)))
            for name, path in paths.items()
            if name != "overtile" and Path(path).exists()
        }


def give_memory_back() -> None:
    """Return this process's freed memory to the system."""
    with suppress(OSError, AttributeError):  # no glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _classes(path: str) -> Any:
    array: Any = zarr.open_array(path, mode="r")
    return np.asarray(array[...])


def status_of(output: str, *, code: str = "") -> Any:
    """Return what ``overtile status`` says of a run: its job, and the figures of its work."""
    place = {"PYTHONPATH": code} if code else {}
    command = [sys.executable, "-P", "-m", "flows.cli", "status", output, "--json"]
    ended = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, **place}
    )
    return json.loads(ended.stdout)


@contextmanager
def old_cluster(code: str) -> Iterator[str]:
    """Yield the address of a cluster whose workers run another checkout."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "cluster.py")
        script.write_text(OLD_CLUSTER)
        command = [sys.executable, "-P", str(script), str(THREADS)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": code},
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(60)


def timed_product(precision: str) -> Callable[[], float]:
    """Return a function that multiplies large matrices on two threads; it returns the seconds."""
    operand = torch.randn(SIZE, SIZE).to(PRECISIONS[precision])

    def one() -> float:
        torch.set_num_threads(THREADS)
        for _ in range(4):
            operand @ operand
        start = time.perf_counter()
        for _ in range(16):
            operand @ operand
        return (time.perf_counter() - start) / 16

    return one


def measured(
    case: Case,
    precision: str,
    *,
    memory_gib: float,
    rounds: int,
    tools: Sequence[str],
    old: str | None,
) -> dict[str, Any]:
    """Return the figures of one case in one precision."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        client = stack.enter_context(open_cluster("local", workers=THREADS, tls="off"))
        place = Place(folder, case, repeat=1)
        run = Run(place, client, precision=precision, memory_gib=memory_gib)
        cases: dict[str, Callable[[], float]] = {
            "overtile": run.overtile, "default": run.default, "daisy": run.daisy,
            "MONAI": run.monai,
        }  # fmt: skip
        if old is not None:
            address = stack.enter_context(old_cluster(old))
            cases["old"] = lambda: run.old(old, address)
        cases = {name: call for name, call in cases.items() if name in tools}
        small = folder / "small"
        small.mkdir()
        warm = Run(
            Place(small, replace(case, shape=SMALL[case.network.dims]), repeat=1), client,
            precision=precision, memory_gib=memory_gib,
        )  # fmt: skip
        warm.overtile()
        if "old" in cases:
            warm.old(old, address)
        timed = in_turn({**cases, "product": timed_product(precision)}, rounds=rounds, warm=0)
        agreement = run.agreement()
    matrix = [2 * SIZE**3 / one for one in timed.pop("product")]
    ideal = ideal_flops(case.network) * math.prod(place.shape)
    shares = {
        name: ratios([ideal / one for one in seconds], matrix) for name, seconds in timed.items()
    }
    return {
        "shape": list(place.shape),
        "matrix_flops_per_s": spread(matrix),
        "seconds": {name: spread(values) for name, values in timed.items()},
        "share_of_the_ideal": shares,
        "over_overtile": {
            name: ratios(values, timed["overtile"]) for name, values in timed.items()
        },
        "tiles": {name: list(tile) for name, tile in run.tiles.items()},
        "plans": run.plans,
        "peaks_mib": run.peaks,
        "same_class_as_overtile": agreement,
        **run_record(),
    }


def _shape(text: str) -> tuple[int, int, int]:
    z, y, x = map(int, text.split(","))
    return z, y, x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=some_of(CASES), default=list(CASES))
    parser.add_argument("--precisions", type=some_of(PRECISIONS), default=["bf16"])
    parser.add_argument("--memory", type=float, default=2.0, metavar="GIB")
    parser.add_argument("--rounds", type=at_least_one, default=5)
    parser.add_argument("--tools", type=some_of(TOOLS), default=list(TOOLS))
    parser.add_argument("--old", metavar="FOLDER")
    parser.add_argument("--shape", type=_shape, metavar="Z,Y,X", help="instead of the case's")
    options = parser.parse_args()
    needs("daisy", "monai")
    restart_with_memory_kept()
    os.environ["OVERTILE_TORCH_THREADS"] = "1"
    figures = cases_kept("share")
    for case in options.cases:
        for precision in options.precisions:
            one = CASES[case]
            one = replace(one, shape=options.shape or one.shape)
            name = f"{case}, {precision}, {options.memory:g} GiB"
            if options.shape not in (None, CASES[case].shape):
                name += f", {shape_text(options.shape)}"
            figures[name] = found = measured(
                one, precision, memory_gib=options.memory, rounds=options.rounds,
                tools=options.tools, old=options.old,
            )  # fmt: skip
            print(
                f"{name}: peaks {found['peaks_mib']}, agreement {found['same_class_as_overtile']}"
            )
            for tool, seconds in found["seconds"].items():
                share = found["share_of_the_ideal"][tool]["median"]
                over = found["over_overtile"][tool]["median"]
                print(f"  {tool}: {seconds['median']} s, {share:.2f} of the ideal, {over:.2f}")
            kept = keep("share", {"threads": THREADS, "cases": figures})
            print(kept, flush=True)


if __name__ == "__main__":
    main()
