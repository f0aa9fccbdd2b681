"""Training from Zarr on the cluster, against the learner alone with one patch in memory.

    python -m benchmarks.training [--steps N] [--rounds N]

A 2-D network of base 32 with four levels, one patch of 228² per step, bfloat16 where the processor
supports it. Compared are ``overtile train`` on a local cluster of one worker, with and without the
preset's augmentation (both with border weights), and a process that repeats the optimiser step on
one patch in memory. Prints patches per second; the first steps of each are left out.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path

import torch

from deploy import open_cluster
from deploy.clusters.machine import cores
from deploy.clusters.worker_environment import KEPT_MEMORY
from flows.demo.volume import make_demo_volume
from flows.options.train import LabelledVolume, TrainOptions
from flows.training.prepare import prepare_training
from flows.training.run import train_on_cluster
from unet import UNetConfig
from unet.recipe.training_config import preset
from unet.samples.maker import Batch
from unet.training.learner import Learner
from unet.training.messages import StepsDone

from .bare_loop import environment_variables
from .measuring import at_least, at_least_one, in_turn, keep, ratios, spread

PATCH = 228
LEFT_OUT = 3
"""Steps of the learner alone before its clock runs."""
NETWORK = UNetConfig(dims=2, base_channels=32, levels=4)
CONFIG = f"""
[network]
base_channels = {NETWORK.base_channels}
levels = {NETWORK.levels}
[training]
patch = [{PATCH}, {PATCH}]
batch = 1
checkpoint_every = 100000
"""
PLAIN = '[training.augment]\nelastic_sigma = 0.0\nrotation = "none"\nmirror = false\n' + "".join(
    f"{name} = 0.0\n" for name in ("contrast", "brightness", "gamma", "noise")
)


class Speeds:
    """Records the reported speeds."""

    def __init__(self) -> None:
        self.patches_per_s: list[float] = []

    def hear(self, message: object) -> None:
        if isinstance(message, StepsDone):
            self.patches_per_s.append(message.patches_per_s)


def ours(config: str, *, steps: int) -> float:
    """Return the seconds of one patch through the whole path."""
    heard = Speeds()
    with tempfile.TemporaryDirectory() as name, open_cluster("local", workers=1) as client:
        demo = make_demo_volume(name, seed=1)
        path = Path(name, "config.toml")
        path.write_text(config)
        prepared = prepare_training(
            [LabelledVolume(volume=demo.raw_uri, labels=demo.truth_uri)],
            str(Path(name, "w.safetensors")),
            TrainOptions(config=str(path), steps=steps, object_class=0),
        )
        train_on_cluster(prepared, client, listeners=[heard])
    return 1 / statistics.fmean(heard.patches_per_s[1:])  # each of as many seconds


def bare(*, steps: int) -> float:
    """Return the seconds of one step of a process that has its patch in memory."""
    context = multiprocessing.get_context("spawn")
    with environment_variables(KEPT_MEMORY), context.Pool(1) as pool:
        return pool.apply(_steps, (steps,))


def _steps(steps: int) -> float:
    torch.set_num_threads(cores())
    learner = Learner(NETWORK, preset("default"), device="cpu")
    size = NETWORK.input_shape((PATCH, PATCH))
    core = NETWORK.output_shape(size)
    batch = Batch(torch.rand(1, 1, *size), torch.randint(0, 2, (1, *core)), torch.ones(1, *core))
    begun = 0.0
    for step in range(steps):
        if step == LEFT_OUT:
            begun = time.perf_counter()
        loss = learner.step(batch, step=step, batch_size=1)
        assert bool(loss.isfinite())
        learner.update(step)
    return (time.perf_counter() - begun) / (steps - LEFT_OUT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=at_least(LEFT_OUT + 1), default=30)
    parser.add_argument("--rounds", type=at_least_one, default=5)
    options = parser.parse_args()
    seconds = in_turn(
        {
            "learner alone": lambda: bare(steps=options.steps),
            "augmented": lambda: ours(CONFIG, steps=options.steps),
            "not augmented": lambda: ours(CONFIG + PLAIN, steps=options.steps),
        },
        rounds=options.rounds,
        warm=0,
    )
    speeds = {name: [1 / one for one in values] for name, values in seconds.items()}
    over = {
        name: ratios(values, speeds["learner alone"])
        for name, values in speeds.items()
        if name != "learner alone"
    }
    for name, values in speeds.items():
        print(f"{name}: {statistics.median(values):.2f} patches/s")
    for name, found in over.items():
        print(f"{name} / learner alone: {found['median']:.2f}")
    figures = {"patches_per_s": {n: spread(v) for n, v in speeds.items()}, "over_learner": over}
    print(keep("training", figures))


if __name__ == "__main__":
    main()
