"""Two ranks of one thread against one rank: the same loss curve, and the speed-up.

    python -m benchmarks.two_ranks [--steps N] [--rounds N] [--plot FILE.svg] [--json FILE]

Trains a small 2-D network on a generated volume (the demo's cells), float32, no dropout. Curve: one
rank with a batch of 2, then two ranks with a batch of 2 in total; prints the largest difference
between the losses of any step. Speed: patches/s of the two ranks over the sum of two independent
trainings of one rank each, batch 1, run at the same time (median over the rounds, after the first
second of each). Each worker process is pinned to one core; otherwise a single rank would make its
samples on a core that two ranks need for the network.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from distributed import Client

from deploy import open_cluster
from flows.demo.volume import make_demo_volume
from flows.options.train import LabelledVolume, TrainOptions
from flows.training.prepare import prepare_training
from flows.training.run import train_on_cluster
from pipeline.base.workers import workers_of
from unet.training.messages import StepsDone

from .measuring import at_least_one

CONFIG = """
[network]
base_channels = 16
levels = 3
dropout = 0.0

[training]
patch = [108, 108]
precision = "fp32"
checkpoint_every = 100000
"""


class Losses:
    """Records the loss of every step, and the speeds."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.patches_per_s: list[float] = []

    def hear(self, message: object) -> None:
        if isinstance(message, StepsDone):
            self.losses += message.losses
            self.patches_per_s.append(message.patches_per_s)

    @property
    def speed(self) -> float:
        return statistics.median(self.patches_per_s[1:])


def trained(
    directory: Path, *, ranks: int, batch: int, steps: int, demo: Any, core: int = 0
) -> Losses:
    """Train with ``ranks`` ranks of one thread each, pinned from ``core`` on; return the record."""
    config = directory / "config.toml"
    prepared = prepare_training(
        [LabelledVolume(volume=demo.raw_uri, labels=demo.truth_uri)],
        str(directory / f"{ranks}-{batch}-{core}.safetensors"),
        TrainOptions(config=str(config), steps=steps, ranks=ranks, batch=batch, object_class=0),
    )
    heard = Losses()
    # Two workers either way: a LocalCluster shares the cores out among its workers' threads.
    with open_cluster("local", workers=2) as client:
        pin_workers(client, [core] * 2 if ranks == 1 else [0, 1])
        train_on_cluster(prepared, client, listeners=[heard])
    return heard


def side_by_side(directory: Path, **arguments: Any) -> float:
    """Return the sum of the speeds of two trainings of one rank each, at the same time."""
    with ThreadPoolExecutor(2) as pool:
        both = [
            pool.submit(trained, directory, ranks=1, batch=1, core=core, **arguments)
            for core in (0, 1)
        ]
        return sum(one.result().speed for one in both)


def pin_workers(client: Client, cores: Sequence[int]) -> None:
    """Pin each worker, with all its threads, to one core."""
    ours = sorted(os.sched_getaffinity(0))
    for core, address in zip(cores, sorted(workers_of(client)), strict=True):
        client.run(pin_to, ours[core], workers=[address])


def pin_to(core: int) -> None:
    """Pin this process to one core; threads that start later inherit it."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), {core})


def svg(curves: dict[str, list[float]]) -> str:
    """Return the curves as a small SVG: the second one drawn as dots over the first one's line."""
    width, height, edge = 640, 320, 40
    most = max(max(curve) for curve in curves.values())
    steps = len(next(iter(curves.values())))

    def place(step: int, loss: float) -> str:
        x = edge + (width - 2 * edge) * step / (steps - 1)
        y = height - edge - (height - 2 * edge) * loss / most
        return f"{x:.1f},{y:.1f}"

    (one, line), (two, dots) = curves.items()
    points = " ".join(place(step, loss) for step, loss in enumerate(line))
    circles = "".join(
        '<circle cx="{}" cy="{}" r="1.6"/>'.format(*place(step, loss).split(","))
        for step, loss in enumerate(dots)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n'
        f'<polyline points="{points}" fill="none" stroke="#1f77b4" stroke-width="1.5"/>\n'
        f'<g fill="#d62728">{circles}</g>\n'
        f'<text x="{edge}" y="20" fill="#1f77b4">line: {one}</text>\n'
        f'<text x="{width // 2}" y="20" fill="#d62728">dots: {two}</text>\n'
        f'<text x="{width // 2}" y="{height - 8}">step, of {steps}</text>\n'
        f'<text x="8" y="{edge}">loss, to {most:.2f}</text>\n</svg>\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=at_least_one, default=5)
    parser.add_argument("--plot")
    parser.add_argument("--json")
    options = parser.parse_args()
    ratios, difference, curves = [], 0.0, {}
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            (directory / "config.toml").write_text(CONFIG)
            demo = make_demo_volume(name, seed=1)
            one, two = (
                trained(directory, ranks=ranks, batch=2, steps=options.steps, demo=demo)
                for ranks in (1, 2)
            )
            alone = side_by_side(directory, steps=options.steps, demo=demo)
        ratios.append(two.speed / alone)
        pairs = zip(one.losses, two.losses, strict=True)
        difference = max(difference, *(abs(a - b) for a, b in pairs))
        curves = {"one rank, batch 2": one.losses, "two ranks, batch 1 each": two.losses}
        print(
            f"round {number + 1}: one rank {one.speed:.2f} patches/s, two {two.speed:.2f}, two "
            f"independent {alone:.2f}: {ratios[-1]:.3f}",
            flush=True,
        )
    figures = {
        "steps": options.steps,
        "largest_loss_difference": difference,
        "two_ranks_over_two_alone": statistics.median(ratios),
        "rounds": ratios,
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
    }
    print(json.dumps(figures, indent=2))
    if options.plot:
        Path(options.plot).write_text(svg(curves))
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
