"""Ranks resume from one checkpoint, also where their machines list different ones."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from unet import UNetConfig
from unet.recipe.training_config import LabelConfig, Recipe, TrainingConfig
from unet.samples.sampling import survey
from unet.training import loop
from unet.training.checkpoint import checkpoint_path, load_checkpoint, load_newest

NETWORK = UNetConfig(dims=2, base_channels=2, levels=2)


@dataclass(frozen=True)
class Noise:
    """A plane of noise; class 1 is where it is bright."""

    name: str = "noise"
    shape_zyx: tuple[int, int, int] = (1, 48, 48)
    spacing_zyx: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def _box(self, start, stop):
        whole = np.random.default_rng(0).random(self.shape_zyx, np.float32)
        bounds = zip(start, stop, self.shape_zyx, strict=True)
        return whole[np.ix_(*[np.abs(np.arange(a, b)) % size for a, b, size in bounds])]

    def read_raw(self, start, stop):
        return self._box(start, stop)[None]

    def read_labels(self, start, stop):
        return (self._box(start, stop) > 0.5).astype(np.int64)


@dataclass
class Rank:
    """A rank that is a thread. stops_after: a step, after which it is asked to leave."""

    rank: int
    world_size: int
    stops_after: int | None = None
    device: str = "cpu"
    yielded: None = None
    steps: int = 0

    def should_stop(self):
        self.steps += 1
        return self.steps == self.stops_after

    def should_regroup(self):
        return False

    def report(self, payload):
        pass

    def barrier(self):
        pass


def job_in(directory):
    labels = LabelConfig()
    training = TrainingConfig(steps=8, precision="fp32", checkpoint_every=2, schedule="constant")
    core = (1, *NETWORK.output_shape(NETWORK.input_shape((8, 8))))
    return loop.TrainingJob(
        recipe=Recipe(network=NETWORK, training=training, labels=labels, class_names=("a", "b")),
        volumes=(Noise(),), surveys=(survey(Noise(), labels, classes=2, dims=2),), validation=(),
        core=core, batch=2, directory=directory,
    )  # fmt: skip


@pytest.mark.parametrize("seen", ["an older one", "none"])
def test_ranks_resume_from_one_checkpoint_whatever_their_machines_list(
    seen, thread_ranks, tmp_path, monkeypatch
):
    """A shared folder may be listed some seconds late; gradients would be of different weights."""
    whole, parts = job_in(tmp_path / "whole"), job_in(tmp_path / "parts")
    loop.train(whole, Rank(0, 1))
    loop.train(parts, Rank(0, 1, stops_after=4))
    here = threading.local()

    def listed(directory: Path, **notes):
        if here.rank == 0:
            return load_newest(directory, **notes)
        return load_checkpoint(checkpoint_path(directory, 2)) if seen != "none" else None

    def resume(rank):
        here.rank = rank
        return loop.train(parts, Rank(rank, 2))

    monkeypatch.setattr(loop, "load_newest", listed)
    assert [end.step for end in thread_ranks(resume, world_size=2)] == [8, 8]
    expected, found = (load_newest(job.directory).model for job in (whole, parts))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-5)
