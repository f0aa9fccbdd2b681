"""The tile that the budget chooses for an amount of memory, timed against others that fit.

    python -m benchmarks.tile_choice [--tries N] [--rounds N] [--memories MIB,…]

For a 2-D and a 3-D network and four amounts of memory each: seconds of one thread for a volume,
extrapolated from one forward pass of a tile by the number of operations, in a process that keeps
freed memory. Tried are the tile that is chosen for one worker, those with the next fewest
operations, and some with more.
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

from pipeline.base.errors import PlanError
from pipeline.base.geometry import Shape
from pipeline.planning import tile_choice
from unet import UNet, UNetConfig, UNetPredictor, save_weights

from .measuring import (
    at_least_one,
    in_turn,
    keep,
    numbers,
    restart_with_memory_kept,
    spread,
)

CASES = {
    "2-D base 32": (UNetConfig(dims=2, base_channels=32, levels=5), (4, 1024, 1536)),
    "3-D base 32": (UNetConfig(dims=3, base_channels=32, levels=4), (128, 256, 256)),
}
MEMORIES_MIB = [256, 512, 1024, 2048]


def others(network: Any, shape: Shape, memory_bytes: int, tries: int) -> list[Shape]:
    """Return tiles that fit, those with the fewest operations first, then some of the rest."""
    candidates = [
        tile_choice._candidates(size, d) for size, d in zip(shape, network.divisor, strict=True)
    ]
    fitting = list(tile_choice._largest_fitting(candidates, shape, network, memory_bytes))
    cost = {tile: tile_choice.volume_flops(tile, shape, network) for tile in fitting}
    near = sorted((tile for tile in fitting if cost[tile] < 2 * min(cost.values())), key=cost.get)
    best, rest = near[: tries // 2], near[tries // 2 :]
    step = max(1, len(rest) // max(1, tries - len(best)))
    return [*best, *rest[::step]][:tries]


def passes(predictor: UNetPredictor, tile: Shape, volume_flops: float) -> Callable[[], float]:
    """Return a function that predicts one tile and returns the seconds of the whole volume."""
    x = np.random.default_rng(0).random((1, 1, *predictor.input_shape(tile)), np.float32)
    factor = volume_flops / predictor.flops(tile)

    def one() -> float:
        start = time.perf_counter()
        predictor(x)
        return (time.perf_counter() - start) * factor

    return one


def measured(
    config: UNetConfig, shape: Shape, memories: list[int], *, tries: int, rounds: int
) -> dict[str, Any]:
    """Return the figures of one network, per memory."""
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder, "w.safetensors"))
        save_weights(UNet(config), weights)
        predictor = UNetPredictor(weights, precision="bf16").settled()
        picked: dict[int, Shape] = {}
        fitting: dict[int, list[Shape]] = {}
        for memory in memories:
            try:
                picked[memory] = tile_choice.choose_tile(
                    shape, predictor, memory_bytes=memory * 2**20
                )
            except PlanError as error:
                print(f"{memory} MiB: {error}")
                continue
            fitting[memory] = [
                picked[memory], *others(predictor, shape, memory * 2**20, tries)
            ]  # fmt: skip
        names = {"x".join(map(str, tile)): tile for tiles in fitting.values() for tile in tiles}
        cases = {
            name: passes(predictor, tile, tile_choice.volume_flops(tile, shape, predictor))
            for name, tile in names.items()
        }
        medians = {
            name: spread(values)["median"] for name, values in in_turn(cases, rounds=rounds).items()
        }
    found = {}
    for memory, tile in picked.items():
        tried = {name: medians[name] for name in names if names[name] in fitting[memory]}
        chosen, best = "x".join(map(str, tile)), min(tried, key=tried.__getitem__)
        found[f"{memory} MiB"] = {
            "rounds": rounds,
            "picked": chosen,
            "best": best,
            "picked_over_best": round(tried[chosen] / tried[best], 3),
            "microseconds_per_voxel": {
                name: round(value / math.prod(shape) * 1e6, 3) for name, value in tried.items()
            },
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=at_least_one, default=4)
    parser.add_argument("--rounds", type=at_least_one, default=5)
    parser.add_argument("--memories", type=numbers, default=MEMORIES_MIB, help="in MiB")
    options = parser.parse_args()
    restart_with_memory_kept()
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    for name, (config, shape) in CASES.items():
        found = measured(
            config, shape, options.memories, tries=options.tries, rounds=options.rounds
        )
        for memory, values in found.items():
            print(f"{name}, {memory}: {values}", flush=True)
        figures[name] = found
    print(keep("tile-choice", {"threads": 1, "cases": figures}))


if __name__ == "__main__":
    main()
