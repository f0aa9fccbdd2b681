"""A training whose workers are killed repeatedly: it recovers and ends without help.

    python -m benchmarks.killed_training [--kills N] [--steps N]

Two ranks train on a generated volume. N times, at a random step, one rank's process gets SIGKILL.
Prints the log, and compares the weights with those of an undisturbed training; the result is kept
in ``killed-training.json``.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
from pathlib import Path
from typing import Any

import torch
from distributed import Client

from deploy import RanksResumed, open_cluster
from flows.demo.volume import make_demo_volume
from flows.options.train import LabelledVolume, TrainOptions
from flows.text.training import message_text
from flows.training.prepare import prepare_training
from flows.training.run import train_on_cluster
from unet import load_weights
from unet.training.messages import StepsDone

from .measuring import keep

CONFIG = """
[network]
base_channels = 8
levels = 3
dropout = 0.0

[training]
patch = [60, 60]
precision = "fp32"
batch = 2
checkpoint_every = 10
"""


class Killer:
    """Kills one worker process at each of the given steps."""

    def __init__(self, client: Client, steps: list[int]) -> None:
        self._client, self._steps, self._kills, self.resumed = client, steps, 0, 0

    def hear(self, message: object) -> None:
        print(message_text(message), flush=True)
        self.resumed += isinstance(message, RanksResumed)
        if not isinstance(message, StepsDone) or not self._steps or self.resumed < self._kills:
            return  # kills that fall together are one loss: wait until the last one was reported
        if message.step >= self._steps[0]:
            self._steps.pop(0)
            self._kills += 1
            pid = random.choice(list(self._client.run(os.getpid).values()))
            print(f"SIGKILL to worker process {pid}", flush=True)
            os.kill(pid, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    random.seed()
    with tempfile.TemporaryDirectory() as name, open_cluster("local", workers=2) as client:
        demo = make_demo_volume(name, seed=1)
        config = Path(name, "config.toml")
        config.write_text(CONFIG)

        def run(out: Path, listeners: list[Any]) -> dict[str, torch.Tensor]:
            train = TrainOptions(config=str(config), steps=options.steps, ranks=2)
            pair = LabelledVolume(volume=demo.raw_uri, labels=demo.truth_uri)
            train_on_cluster(prepare_training([pair], str(out), train), client, listeners=listeners)
            return load_weights(out)[0].state_dict()

        at = sorted(random.sample(range(1, options.steps - 20), options.kills))
        killer = Killer(client, list(at))
        disturbed = run(Path(name, "killed.safetensors"), [killer])
        undisturbed = run(Path(name, "whole.safetensors"), [])
    difference = max(float((disturbed[key] - undisturbed[key]).abs().max()) for key in undisturbed)
    print(f"killed at steps {at}: {killer.resumed} resumptions, ended without help")
    print(f"largest difference of any weight from the undisturbed training: {difference:.2e}")
    figures = {"killed_at_steps": at, "resumptions": killer.resumed}
    print(keep("killed-training", {**figures, "largest_difference_of_a_weight": difference}))


if __name__ == "__main__":
    main()
