"""Share of the ideal: how near tiles and sweeps come to a network that computes nothing twice.

    python -m benchmarks.ideal [--precisions bf16,fp32] [--memory GIB] [--rounds N]

Share = (operations per voxel of an infinite tile x voxels) / (seconds x matrix rate). The planner
chooses a tile and a swept tile for a volume of 10000 cubed in the same memory; one of each goes
through the network, from uint8 to classes, in turn with products of matrices. One thread; seconds
are those of the processor, so that other work on the machine counts little. A 3-D network of base
32 and four levels, freshly initialised.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.base.geometry import Box
from pipeline.base.tile_request import StoredPlanes
from pipeline.planning.blocks import BlockPlan, tile_input
from pipeline.planning.chunk_fit import InputLayout
from pipeline.planning.traversal import Given, choose_plan
from pipeline.segmentation.engines.tile import StageClock, TileWork, compute_tile
from pipeline.volume.intensity import Intensity
from unet import UNet, UNetConfig, UNetPredictor, save_weights

from .limit import SIZE
from .measuring import (
    at_least_one,
    commit,
    in_turn,
    keep,
    ratios,
    restart_with_memory_kept,
    some_of,
    spread,
)
from .network import PRECISIONS

CONFIG = UNetConfig(dims=3, base_channels=32, levels=4)
VOLUME = (10_000,) * 3
PRODUCTS = 16
ENDLESS = 10**8


def ideal_flops(config: UNetConfig) -> float:
    """Return the operations per voxel where no halo counts."""
    sides = [ENDLESS * divisor for divisor in config.divisor]
    return config.flops(config.input_shape(sides)) / math.prod(sides)


def timed_tile(predictor: UNetPredictor, plan: BlockPlan) -> Callable[[], float]:
    """Return a function that computes one tile of noise and returns its seconds."""
    core = Box.of_shape(plan.tile)
    outer = tile_input(core, plan.halo, predictor.input_shape)
    raw = np.random.default_rng(0).integers(0, 256, (1, *outer.shape), np.uint8)
    classes = np.zeros(core.shape, np.uint8)
    work = TileWork(
        predictor=predictor, plan=plan, intensity=Intensity((0.0,), (1 / 255,)), outputs=()
    )

    def put(box: Box, planes: StoredPlanes) -> None:
        classes[box.slices] = planes.classes_zyx

    def one() -> float:
        start = time.process_time()
        compute_tile(
            lambda box: raw[(slice(None), *box.relative_to(outer.start).slices)],
            core, put, work=work, clock=StageClock(),
        )  # fmt: skip
        return time.process_time() - start

    return one


def timed_product(precision: str) -> Callable[[], float]:
    """Return a function that multiplies large matrices and returns the seconds of one product."""
    operand = torch.randn(SIZE, SIZE).to(PRECISIONS[precision])

    def one() -> float:
        start = time.process_time()
        for _ in range(PRODUCTS):
            operand @ operand
        return (time.process_time() - start) / PRODUCTS

    return one


def measured(weights: str, precision: str, *, memory_gib: float, rounds: int) -> dict[str, Any]:
    """Return the figures of tiles and sweeps in one precision."""
    predictor = UNetPredictor(weights, precision=precision, device="cpu")  # type: ignore[arg-type]
    layout = InputLayout(chunk_zyx=(64, 64, 64), voxel_bytes=1)
    plans = {
        traversal: choose_plan(
            Given(traversal=traversal), VOLUME, predictor,
            memory_bytes=int(memory_gib * 2**30), layout=layout,
        ).plan
        for traversal in ("tiles", "sweep")
    }  # fmt: skip
    cases = {name: timed_tile(predictor, plan) for name, plan in plans.items()}
    cases["tiles"]()  # warm up; a sweep does so in its first slabs
    seconds = in_turn({**cases, "product": timed_product(precision)}, rounds=rounds, warm=0)
    matrix = [2 * SIZE**3 / one for one in seconds["product"]]
    figures: dict[str, Any] = {"matrix_flops_per_s": spread(matrix), "commit": commit()}
    per_voxel = {}
    for name, plan in plans.items():
        voxels = Box.of_shape(plan.tile).voxels
        per_voxel[name] = [one / voxels for one in seconds[name]]
        ideal = [ideal_flops(CONFIG) * voxels / one for one in seconds[name]]
        figures[name] = {
            "tile": list(plan.tile),
            "flops_per_voxel": predictor.flops(plan.tile) / voxels,
            "cpu_seconds": spread(seconds[name]),
            "share_of_the_ideal": ratios(ideal, matrix),
        }
    figures["tiles_over_sweep"] = ratios(per_voxel["tiles"], per_voxel["sweep"])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precisions", type=some_of(PRECISIONS), default=["bf16"])
    parser.add_argument("--memory", type=float, default=2.0, metavar="GIB")
    parser.add_argument("--rounds", type=at_least_one, default=3)
    options = parser.parse_args()
    restart_with_memory_kept()
    torch.set_num_threads(1)
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "weights.safetensors")
        save_weights(UNet(CONFIG).eval(), weights)
        for precision in options.precisions:
            figures[precision] = found = measured(
                str(weights), precision, memory_gib=options.memory, rounds=options.rounds
            )
            for name in ("tiles", "sweep"):
                share = found[name]["share_of_the_ideal"]["median"]
                print(f"{precision}, {name} of {found[name]['tile']}: {share:.2f} of the ideal")
            print(f"tiles over sweep: {found['tiles_over_sweep']['median']:.2f}", flush=True)
    print(keep("ideal", {"threads": 1, "memory_gib": options.memory, "cases": figures}))


if __name__ == "__main__":
    main()
