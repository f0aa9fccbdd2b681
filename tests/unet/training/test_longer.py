"""The laws of longer trainings, best weights and early stops: none depends on interruptions.

Volumes are noise, and most validations are scripted: a score per step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.base.errors import TrainingError, TrainingFailedError
from unet import UNetConfig, read_weights_info
from unet.recipe.augment_config import AugmentConfig
from unet.recipe.schedule import StepSchedule
from unet.recipe.training_config import LabelConfig, Recipe, TrainingConfig
from unet.samples.sampling import survey
from unet.scoring.scores import Scores
from unet.training import loop
from unet.training.checkpoint import load_newest, save_checkpoint
from unet.training.loop import TrainingJob, train
from unet.training.progress import Progress
from unet.training.ranks import Alone

PLANNED, LONGER = 6, 10


@dataclass(frozen=True)
class Noise:
    """A volume of noise; bright voxels are class 1."""

    name: str = "noise"
    shape_zyx: tuple[int, int, int] = (2, 20, 20)
    spacing_zyx: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def read_raw(self, start, stop):
        shape = [b - a for a, b in zip(start, stop, strict=True)]
        seed = [n + 100 for n in start]
        return np.random.default_rng(seed).standard_normal((1, *shape)).astype("f4")

    def read_labels(self, start, stop):
        return (self.read_raw(start, stop)[0] > 0).astype("u1")


def job_of(directory, *, cycles=None, **training):
    settings = {
        "steps": PLANNED, "precision": "fp32", "checkpoint_every": 4, "validate_every": 2,
        "augment": AugmentConfig.none(), "border_weight": 0.0, **training,
    }  # fmt: skip
    recipe = Recipe(
        network=UNetConfig(dims=2, base_channels=2, levels=2),
        training=TrainingConfig(**settings), labels=LabelConfig(),
    )  # fmt: skip
    volume = Noise()
    return TrainingJob(
        recipe=recipe, volumes=(volume,), validation=(volume,), core=(1, 8, 8), batch=1,
        surveys=(survey(volume, recipe.labels, classes=2, dims=2),), directory=directory,
        schedule=None if cycles is None else StepSchedule(cycles),
    )  # fmt: skip


def resumed(job, **training):
    """Return the job as `--resume` with other settings prepares it."""
    recipe = replace(job.recipe, training=replace(job.recipe.training, **training))
    progress = Progress.at_start(recipe).longer(load_newest(job.directory))
    return replace(job, recipe=recipe, schedule=progress.schedule)


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))


def assert_same_end(one, other):
    """Check last state, record and best weights of two trainings, bit for bit."""
    left, right = load_newest(one.directory), load_newest(other.directory)
    assert left.step == right.step
    assert same(left.model, right.model)
    assert same(left.ema, right.ema)
    for number, entries in left.optimiser["state"].items():
        assert same(entries, right.optimiser["state"][number])
    for name in ("schedule", "selection", "scores"):
        assert left.record[name] == right.record[name], name
    assert_same_best(one, other)


def assert_same_best(one, other):
    files = [job.directory / "best.safetensors" for job in (one, other)]
    assert same(*map(load_file, files))
    left, right = (read_weights_info(file).provenance for file in files)
    for name in ("steps", "metric", "score", "schedule"):
        assert left[name] == right[name], name


class StoppedAfter(Alone):
    """The only rank; it is asked to stop after so many steps."""

    def __init__(self, steps):
        asked = iter(range(1, 1000))
        super().__init__(stop=lambda: next(asked) >= steps)


@pytest.fixture
def scripted(monkeypatch):
    """Return a function that replaces validations by scores per step; others are 0."""

    def script(scores):
        def validate(learner, *_, **__):
            step = int(next(iter(learner.optimiser.state.values()))["step"])
            value = float(scores.get(step, 0.0))
            return Scores(1 - value, 1 - value, (value,) * 2, (value,) * 2, value), None

        monkeypatch.setattr(loop, "validate", validate)

    return script


@pytest.mark.parametrize("schedule", [pytest.param("one-cycle", marks=pytest.mark.slow), "cosine"])
def test_a_finished_training_made_longer_equals_an_uninterrupted_longer_one(schedule, tmp_path):
    parts = job_of(tmp_path / "parts", schedule=schedule)
    assert train(parts).step == PLANNED
    longer = resumed(parts, steps=LONGER)
    assert longer.schedule.cycles == ((0, PLANNED), (PLANNED, LONGER))
    assert train(longer, StoppedAfter(1)).step == PLANNED + 1
    assert train(longer).step == LONGER
    whole = replace(longer, directory=tmp_path / "whole")
    assert train(whole).step == LONGER
    assert_same_end(parts, whole)


def test_a_training_made_longer_before_its_end_is_the_one_made_longer_after_it(tmp_path, scripted):
    scripted({})
    early, late = job_of(tmp_path / "early"), job_of(tmp_path / "late")
    assert not train(early, StoppedAfter(3)).finished
    assert train(late).finished
    for job in (early, late):
        assert train(resumed(job, steps=LONGER)).step == LONGER
    assert_same_end(early, late)


def test_a_constant_rate_made_longer_is_the_longer_training(tmp_path, scripted):
    scripted({2: 0.5})
    parts = job_of(tmp_path / "parts", schedule="constant")
    train(parts)
    train(resumed(parts, steps=LONGER))
    whole = job_of(tmp_path / "whole", schedule="constant", steps=LONGER)
    train(whole)
    left, right = load_newest(parts.directory), load_newest(whole.directory)
    assert same(left.model, right.model)
    assert same(left.ema, right.ema)


def test_a_checkpoint_of_another_schedule_is_refused(tmp_path, scripted):
    scripted({})
    job = job_of(tmp_path)
    train(job)
    said = r"^the checkpoint was made with the schedule \[\[0, 6\]\], now it is \[\[0, 10\]\]: "
    with pytest.raises(TrainingError, match=said):
        train(replace(job, schedule=StepSchedule(((0, LONGER),))))
    with pytest.raises(TrainingError, match=r"^steps \(5\): this training has done 6 of 6 steps"):
        resumed(job, steps=5)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("place", [
    "before the checkpoint of step 2", "before the weights of step 2",
    "before the checkpoint of step 6", "before the weights of step 6", "at step 7",
])  # fmt: skip
def test_the_best_weights_survive_a_kill_anywhere(place, tmp_path, scripted, monkeypatch):
    scripted({2: 0.4, 4: 0.2, 6: 0.9, 8: 0.9})
    whole, killed = (job_of(tmp_path / name, steps=8) for name in ("whole", "killed"))
    end = train(whole)
    assert (end.selection.step, end.selection.score) == (6, 0.9)
    step = int(place[-1])
    real = {"checkpoint": loop.save_checkpoint, "weights": loop.keep_best}

    def save(checkpoint, directory):
        if "checkpoint" in place and checkpoint.step == step:
            raise KilledError
        return real["checkpoint"](checkpoint, directory)

    def keep(model, directory, facts, selection, schedule):
        if "weights" in place and selection.step == step:
            raise KilledError
        real["weights"](model, directory, facts, selection, schedule)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", save)
        patch.setattr(loop, "keep_best", keep)
        if "at step" in place:
            train(killed, StoppedAfter(step))
        else:
            with pytest.raises(KilledError):
                train(killed)
    end = train(killed)
    assert (end.selection.step, end.selection.score) == (6, 0.9)
    assert_same_end(killed, whole)


def test_the_best_weights_are_those_of_their_step(tmp_path, scripted):
    scripted({2: 0.1, 4: 0.6, 6: 0.3})
    job = job_of(tmp_path / "whole")
    end = train(job)
    assert (end.selection.step, end.selection.without_better) == (4, 1)
    stopped = job_of(tmp_path / "stopped")
    train(stopped, StoppedAfter(4))
    expected = load_newest(stopped.directory).ema
    assert same(load_file(job.directory / "best.safetensors"), expected)
    stated = read_weights_info(job.directory / "best.safetensors").provenance
    assert (stated["kept"], stated["steps"], stated["score"]) == ("best", 4, 0.6)
    assert not same(load_newest(job.directory).ema, expected)


def test_the_last_validation_of_an_earlier_version_counts_if_its_weights_are_known(
    tmp_path, scripted
):
    scripted({6: 0.9})
    job = job_of(tmp_path)
    train(job)
    checkpoint = load_newest(tmp_path)
    for name in ("selection", "schedule"):
        del checkpoint.record[name]
    save_checkpoint(checkpoint, tmp_path)
    (tmp_path / "best.safetensors").unlink()
    end = train(resumed(job, steps=LONGER))
    assert (end.step, end.selection.step) == (LONGER, 6)
    assert same(load_file(tmp_path / "best.safetensors"), checkpoint.ema)


def test_a_training_stops_early_once_its_patience_has_run_out(tmp_path, scripted):
    scripted({2: 0.2, 4: 0.7})
    job = job_of(tmp_path / "early", steps=20, patience=3)
    end = train(job)
    assert (end.step, end.finished, end.stopped_early) == (10, True, True)
    assert (end.selection.step, end.selection.without_better) == (4, 3)
    assert load_newest(job.directory).step == 10
    again = train(job)
    assert (again.step, again.stopped_early) == (10, True)


def test_a_larger_patience_continues_to_the_end_of_an_uninterrupted_training(tmp_path, scripted):
    scripted({2: 0.7})
    early = job_of(tmp_path / "early", steps=16, patience=2)
    assert train(early).step == 6
    more = resumed(early, patience=4)
    assert more.schedule.cycles == ((0, 16),)
    assert train(more).step == 10
    whole = job_of(tmp_path / "whole", steps=16, patience=4)
    assert train(whole).step == 10
    assert_same_end(early, whole)


def test_more_steps_after_an_early_stop_are_a_new_cycle_with_new_patience(tmp_path, scripted):
    scripted({2: 0.7, 12: 0.8})
    early = job_of(tmp_path / "early", steps=8, patience=2)
    assert train(early).step == 6
    more = resumed(early, steps=14)
    assert more.schedule.cycles == ((0, 8), (6, 14))
    assert train(more).step == 10, "two validations of the new cycle brought nothing better"
    assert train(resumed(more, patience=3)).step == 14
    whole = replace(resumed(more, patience=3), directory=tmp_path / "whole")
    end = train(whole)
    assert (end.step, end.selection.step) == (14, 12)
    assert_same_end(early, whole)


def test_a_full_disk_under_the_best_weights_is_one_line(tmp_path, scripted):
    scripted({})
    (tmp_path / "best.safetensors").mkdir()
    said = (
        r"best\.safetensors' cannot be written \(.*\): free some space, then resume with --resume$"
    )
    with pytest.raises(TrainingFailedError, match=said) as caught:
        train(job_of(tmp_path))
    assert "\n" not in str(caught.value)
    assert load_newest(tmp_path).step == 2, "the checkpoint came first"
