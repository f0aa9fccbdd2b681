"""The cost of a training sample's deformation and weight map, as a share of its training step.

    python -m benchmarks.augmentation_cost [--device cuda] [--threads N] [--rounds N] [--json FILE]

One sample per step of the preset ``default``: a 2-D network of base 32 with four levels on 572²,
and a 3-D one with three levels on 92³. Grey values and cells are synthetic; nothing is read. All
parts are interleaved in rounds in one process. Prints medians and quartiles, and the shares of a
step that augmentation alone and the whole sample take. During a training a separate thread makes
the samples while the network computes.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from unet.network.config import UNetConfig
from unet.recipe.training_config import LabelConfig, preset
from unet.samples.augment import AugmentConfig, augment, margin
from unet.samples.maker import Batch
from unet.samples.rules.registry import learn as learn_labels
from unet.samples.weight_map import weight_map
from unet.training.learner import Learner

from .measuring import at_least_one

CELL_SIDE = 50  # voxels: about 60 cells on the paper's 388² output
NETWORKS = {
    "2-D, 572²": (UNetConfig(dims=2, base_channels=32, levels=4), (572, 572)),
    "3-D, 92³": (UNetConfig(dims=3, base_channels=32, levels=3), (92, 92, 92)),
}


def cells(shape: tuple[int, ...]) -> np.ndarray:
    """Return ids of cells that touch one another: the nearest of random seeds, from 1 on."""
    draw = np.random.default_rng(0)
    count = max(2, round(np.prod(shape) / CELL_SIDE ** len(shape)))
    seeds = draw.uniform(0, 1, (count, len(shape))) * shape
    _, nearest = cKDTree(seeds).query(np.argwhere(np.ones(shape, bool)))
    return 1 + nearest.reshape(shape)


def parts_of(
    network: UNetConfig, shape: tuple[int, ...], *, device: str
) -> dict[str, Callable[[int], object]]:
    """Return the parts of a step as functions of the round's number."""
    dims, output = network.dims, network.output_shape(shape)
    config = AugmentConfig()
    around = margin(config, dims=dims, input_shape=shape)
    outer = tuple(n + 2 * m for n, m in zip(shape, around, strict=True))
    image = torch.rand(1, 1, *outer, device=device)
    ids = torch.from_numpy(cells(outer))[None].to(device)
    grown = tuple(
        n + 2 for n in output
    )  # one voxel more on each side: a boundary depends on its neighbours
    learner = Learner(network, preset("default"), device=device)

    def deform(number: int) -> tuple[torch.Tensor, torch.Tensor]:
        return augment(
            image, ids, input_shape=shape, output_shape=grown, config=config, seeds=[number]
        )

    x, labels = deform(0)
    labels_zyx = labels.cpu().numpy().reshape(-1, *grown[-2:])
    boundary = LabelConfig(rule="boundary")
    learnt_zyx = learn_labels(labels_zyx, boundary, spacing=(1,) * dims)

    def label(_: int) -> object:
        return learn_labels(labels_zyx, boundary, spacing=(1,) * dims)

    def weigh(_: int) -> np.ndarray:
        return weight_map(
            learnt_zyx.targets, learnt_zyx.objects, class_weights=(0.7, 1.9), dims=dims
        )

    core = tuple(slice(1, -1) for _ in range(dims))
    learnt, weights = (
        torch.from_numpy(array.reshape(grown)[core][None].copy()).to(device)
        for array in (learnt_zyx.targets, weigh(0))
    )

    def learn(number: int) -> None:
        learner.step(Batch(x, learnt, weights), step=number, batch_size=1)
        learner.update(number)

    return {"augment": deform, "label rule": label, "weight map": weigh, "training step": learn}


def measured(
    parts: dict[str, Callable[[int], object]], *, rounds: int, device: str
) -> dict[str, list[float]]:
    """Return the milliseconds of each part in each round, after two rounds that are not counted."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    times: dict[str, list[float]] = {name: [] for name in parts}
    for number in range(rounds + 2):
        for name, part in parts.items():
            wait()
            start = time.perf_counter()
            part(number)
            wait()
            if number >= 2:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def figures(times: dict[str, list[float]]) -> dict[str, Any]:
    """Return median and quartiles of each part, and the shares of the step."""
    quartiles = {name: statistics.quantiles(values, n=4) for name, values in times.items()}
    median = {name: middle for name, (_, middle, _) in quartiles.items()}
    step = median["training step"]
    made = sum(median[name] for name in ("augment", "label rule", "weight map"))
    return {
        "milliseconds": {
            name: [round(value, 2) for value in values] for name, values in quartiles.items()
        },
        "augmentation_share": round(median["augment"] / step, 4),
        "sample_share": round(made / step, 4),
    }


def machine(device: str) -> dict[str, Any]:
    """Describe the machine of the figures."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "CPU",
        "cpu": names[0] if names else platform.processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": commit.stdout.strip(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=at_least_one, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    found: dict[str, Any] = {"machine": machine(options.device), "rounds": options.rounds}
    print(", ".join(f"{name} {value}" for name, value in found["machine"].items()))
    for name, (network, shape) in NETWORKS.items():
        parts = parts_of(network, shape, device=options.device)
        found[name] = figures(measured(parts, rounds=options.rounds, device=options.device))
        for part, (low, middle, high) in found[name]["milliseconds"].items():
            print(f"{name}  {part:13}  {middle:8.1f} ms  ({low:.1f} to {high:.1f})")
        print(
            f"{name}  augmentation is {found[name]['augmentation_share']:.1%} of a step, "
            f"with labels and weights {found[name]['sample_share']:.1%}",
            flush=True,
        )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
