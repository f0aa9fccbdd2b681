"""All GPU measurements in one call: limits, the network alone, Zarr to Zarr, and a profile.

    python -m benchmarks.gpu [--repeat N] [--rounds N]          (pip install 'overtile[cuda]')

Limits: matrix products in bfloat16 and float32, copies between the device and pageable or pinned
memory. Network: bfloat16, channels-last, one tile after the other, run plainly, as a CUDA graph and
compiled. Zarr to Zarr: `overtile segment` on a cluster of dask-cuda workers, one per GPU, with its
share of the matrix rate, and the GPU's utilisation from nvidia-smi. The profile lists the kernels
that take longest for one tile. A part that fails is recorded as failed and the others still run;
the results file is written after every part.

``--device cpu`` runs the same script without a GPU, on small tiles, to check that it works.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from deploy import open_cluster
from pipeline.base.location import Location
from pipeline.ledger.status import read_status
from unet import UNet, UNetConfig

from .measuring import at_least_one, digits, in_turn, keep, spread
from .pipeline import CASES, Case, Place

PRODUCTS = 20
TILES = {"2-D base 64": 1212, "3-D base 32": 220}
"""Input of the network along each axis."""
SMALL = {2: 188, 3: 92}
"""Tiles without a GPU."""
VOLUMES = {"2-D base 64": (128, 4096, 4096), "3-D base 32": (1024, 1024, 1024)}
"""Seconds of work for a GPU at half of its peak; --repeat makes minutes of it."""


def wait(device: str) -> None:
    """Wait until the device has finished its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def timed(work: Callable[[], Any], device: str) -> Callable[[], float]:
    """Return a function that does the work, waits for the device, and returns the seconds."""

    def one() -> float:
        wait(device)
        start = time.perf_counter()
        work()
        wait(device)
        return time.perf_counter() - start

    return one


def limits(device: str, rounds: int) -> dict[str, Any]:
    """Return FLOP/s of matrix products and bytes/s of copies."""
    size = 8192 if device == "cuda" else 512
    operands = {
        name: torch.randn(size, size, device=device).to(dtype)
        for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32))
    }

    def multiply(name: str) -> None:
        for _ in range(PRODUCTS):
            operands[name] @ operands[name]

    products = {name: timed(partial(multiply, name), device) for name in operands}
    seconds = in_turn(products, rounds=rounds)
    found: dict[str, Any] = {
        "matrix_flops_per_s": {
            name: spread([2 * size**3 * PRODUCTS / one for one in taken])
            for name, taken in seconds.items()
        }
    }
    if device == "cuda":
        there = torch.empty(2**28, dtype=torch.uint8, device=device)
        for kind, here in (
            ("pageable", torch.empty(2**28, dtype=torch.uint8)),
            ("pinned", torch.empty(2**28, dtype=torch.uint8).pin_memory()),
        ):
            taken = in_turn(
                {
                    "to": timed(partial(there.copy_, here, non_blocking=True), device),
                    "from": timed(partial(here.copy_, there, non_blocking=True), device),
                },
                rounds=rounds,
            )
            for way, values in taken.items():
                found[f"{kind}_{way}_device_bytes_per_s"] = spread([2**28 / v for v in values])
    return found


def as_graph(model: Any, tile: torch.Tensor) -> Callable[[], Any]:
    """Return a function that replays one pass as a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side), torch.inference_mode():
        for _ in range(3):
            model(tile)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        model(tile)
    return graph.replay


def network(config: UNetConfig, size: int, device: str, rounds: int) -> dict[str, Any]:
    """Return FLOP/s of one network in each mode, and the profile of one pass."""
    if device == "cpu":
        size = SMALL[config.dims]
    layout = torch.channels_last if config.dims == 2 else torch.channels_last_3d
    model: Any = UNet(config).eval().requires_grad_(False).to(device, torch.bfloat16)
    model = model.to(memory_format=layout)
    tile = torch.randn(1, 1, *(size,) * config.dims, device=device).to(torch.bfloat16)

    def run(net: Any) -> Callable[[], None]:
        def one() -> None:
            with torch.inference_mode():
                net(tile)

        return one

    ways: dict[str, Callable[[], Callable[[], Any]]] = {"plain": lambda: run(model)}
    if device == "cuda":
        ways["CUDA graph"] = lambda: as_graph(model, tile)
        ways["compiled"] = lambda: run(torch.compile(model, mode="max-autotune"))
    found: dict[str, Any] = {"tile_input": size}
    flops = config.flops((size,) * config.dims)
    for name, make in ways.items():
        try:
            seconds = in_turn({name: timed(make(), device)}, rounds=rounds, warm=3)[name]
        except Exception as error:  # a mode that this GPU or torch does not support is a result too
            found[name] = f"failed: {str(error).splitlines()[0]}"
            continue
        found[name] = spread([flops / one for one in seconds])
    with torch.profiler.profile() as profile:
        timed(run(model), device)()
    key = f"self_{'device' if device == 'cuda' else 'cpu'}_time_total"
    longest = sorted(profile.key_averages(), key=lambda event: -getattr(event, key))[:12]
    found["profile_ms"] = {event.key[:80]: digits(getattr(event, key) / 1e3) for event in longest}
    return found


@contextmanager
def busy(device: str) -> Iterator[list[float]]:
    """Yield the utilisation of the GPUs in percent, from nvidia-smi.

    From the first sample with work to the last: the start of the command is not counted.
    """
    values: list[float] = []
    if device == "cpu":
        yield values
        return
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    with subprocess.Popen([*command, "-lms", "200"], stdout=subprocess.PIPE, text=True) as smi:
        try:
            yield values
        finally:
            smi.terminate()
            assert smi.stdout is not None
            said = [float(line) for line in smi.stdout if line.strip().isdigit()]
            worked = [number for number, percent in enumerate(said) if percent]
            values += said[worked[0] : worked[-1] + 1] if worked else said


def zarr_to_zarr(name: str, device: str, rounds: int, repeat: int) -> dict[str, Any]:
    """Return seconds, FLOP/s and stages of the whole path."""
    case = CASES[name]
    shape = VOLUMES[name] if device == "cuda" else (2, 256, 256)
    volume = Case(case.network, shape, None, 1)
    kind = "cuda" if device == "cuda" else "local"
    with tempfile.TemporaryDirectory() as folder, open_cluster(kind, tls="off") as client:
        place = Place(Path(folder), volume, repeat=repeat)
        prepared = place.prepared()
        flops, tile = prepared.budget.flops, prepared.plan.tile
        address = client.scheduler.address
        place.segment(address)
        seconds, stages, percent = [], [], []
        workers = len(client.nthreads())
        for _ in range(rounds):
            with busy(device) as samples:
                figures = read_status(Location.parse(place.segment(address))).figures
            percent += samples
            seconds.append(figures.seconds)
            stages.append(dict(figures.stage_seconds))
    return {
        "shape": list(place.shape),
        "tile": list(tile),
        "workers": workers,
        "seconds": spread(seconds),
        "flops_per_s": spread([flops / one for one in seconds]),
        "stage_seconds": stages[-1],
        "device_share": digits(stages[-1]["device"] / (seconds[-1] * workers)),
        "gpu_busy_percent": spread(percent) if percent else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rounds", type=at_least_one, default=5)
    parser.add_argument(
        "--repeat", type=at_least_one, default=1, help="factor by which the volumes are made deeper"
    )
    options = parser.parse_args()
    device, rounds = options.device, options.rounds
    if device == "cuda" and not torch.cuda.is_available():
        parser.exit(2, "benchmarks.gpu: torch found no GPU\n")
    figures: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "limits": limits(device, rounds),
    }
    name = "gpu" if device == "cuda" else "gpu-without-gpu"
    rate = figures["limits"]["matrix_flops_per_s"]["bf16"]["median"]
    print(f"matrix products, bf16: {rate / 1e12:.2f} TFLOP/s", flush=True)
    for case, size in TILES.items():
        parts = {
            "alone": partial(network, CASES[case].network, size, device, rounds),
            "Zarr to Zarr": partial(zarr_to_zarr, case, device, rounds, options.repeat),
        }
        for part, measure in parts.items():
            try:
                found = measure()
            except Exception as error:  # GPU time is scarce: still measure the rest
                found = {"failed": str(error).splitlines()[0]}
            if device == "cuda" and "flops_per_s" in found:
                of_all = rate * found["workers"]
                share = digits(found["flops_per_s"]["median"] / of_all)
                found["share_of_matrix_rate"] = share
            figures[f"{case}, {part}"] = found
            print(f"{case}, {part}: {found}", flush=True)
            keep(name, figures)
    print(keep(name, figures))


if __name__ == "__main__":
    main()
