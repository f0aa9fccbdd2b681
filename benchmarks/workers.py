"""Throughput by number of workers: one and two are measured, more are modelled.

    python -m benchmarks.workers [--rounds N]

`overtile segment` of a 2-D network of base 32, with one and with two worker processes of a thread,
interleaved. The model for GPUs has one bound besides their number: the rate of driver and
scheduler, from benchmarks/results/scale.json for 10,000 blocks (benchmarks/scale.py). It ignores
the network between machines and the store; docs/performance-details.md states its
assumptions.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy import open_cluster
from pipeline.base.location import Location
from pipeline.base.text import shape_text
from pipeline.ledger.status import read_status
from pipeline.planning.chunk_fit import InputLayout
from pipeline.planning.tile_choice import volume_flops
from pipeline.planning.traversal import Given, choose_plan
from unet import UNet, UNetConfig, UNetPredictor, save_weights

from .measuring import RESULTS, at_least_one, digits, in_turn, keep, ratios, spread
from .pipeline import CASES, SAME_MEMORY, Place

CASE = "2-D base 32"
GPU_FLOPS_PER_S = 0.35 * 700e12
"""Assumed for a 3-D network on an H100 (35 % of its bfloat16 matrix rate): not measured."""
NETWORK = UNetConfig(dims=3, base_channels=32, levels=4)
VOLUME = (10_000,) * 3
MEMORY_BYTES = 2**33
"""Of a tile: the most that ``auto`` takes."""
BLOCKS = (128, 256, None)
GPUS = (1, 10, 100, 1000)


def planned(blocks: Sequence[int | None]) -> dict[str, tuple[int, float]]:
    """Return voxels of a block and operations per voxel, as planned for a large volume.

    blocks: side of a cube; None: the block that the plan chooses.
    """
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "weights.safetensors")
        save_weights(UNet(NETWORK), weights)
        predictor = UNetPredictor(str(weights), precision="bf16", device="cpu")
    layout = InputLayout(chunk_zyx=(64, 64, 64), voxel_bytes=1)
    for block in blocks:
        given = Given(block=None if block is None else (block,) * 3)
        plan = choose_plan(
            given, VOLUME, predictor, memory_bytes=MEMORY_BYTES, layout=layout
        ).plan  # fmt: skip
        name = shape_text(plan.core) if block is None else f"{block}³"
        flops = volume_flops(plan.tile, VOLUME, predictor) / math.prod(VOLUME)
        found[name] = (math.prod(plan.core), flops)
    return found


def modelled(blocks_per_s: float, voxels: int, flops_per_voxel: float, gpus: int) -> float:
    """Return the voxels per second of GPUs behind one scheduler."""
    return min(gpus * GPU_FLOPS_PER_S / flops_per_voxel, blocks_per_s * voxels)


def model() -> dict[str, Any]:
    """Return Gvoxel/s by block and number of GPUs, from the measured scheduler rate."""
    runs = json.loads((RESULTS / "scale.json").read_text())["runs"]
    rate = next(run["blocks_per_s"] for run in runs if run["engine"] == "store")
    blocks = planned(BLOCKS)
    return {
        "scheduler_blocks_per_s": rate,
        "mflops_per_voxel": {name: digits(flops / 1e6) for name, (_, flops) in blocks.items()},
        "gvoxels_per_s": {
            name: {str(n): digits(modelled(rate, *block, n) / 1e9) for n in GPUS}
            for name, block in blocks.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=at_least_one, default=5)
    options = parser.parse_args()
    os.environ["OVERTILE_TORCH_THREADS"] = "1"
    many = model()  # first, because it fails quickly if scale.py has not run
    with (
        tempfile.TemporaryDirectory() as folder,
        open_cluster("local", workers=1, tls="off") as one,
        open_cluster("local", workers=2, tls="off") as two,
    ):
        place = Place(Path(folder), CASES[CASE], repeat=1)

        def seconds(client: Any) -> float:
            return read_status(
                Location.parse(place.segment(client.scheduler.address, *SAME_MEMORY))
            ).figures.seconds

        taken = in_turn(
            {"1 worker": lambda: seconds(one), "2 workers": lambda: seconds(two)},
            rounds=options.rounds,
        )
    figures = {
        "case": CASE,
        "seconds": {name: spread(values) for name, values in taken.items()},
        "two_over_one": ratios(taken["1 worker"], taken["2 workers"]),
        "model": many,
    }
    print(f"two workers are {figures['two_over_one']['median']:.2f} times as fast as one")
    for block, by_gpus in figures["model"]["gvoxels_per_s"].items():
        print(f"modelled, blocks of {block}: Gvoxel/s by GPUs {by_gpus}")
    print(keep("workers", figures))


if __name__ == "__main__":
    main()
