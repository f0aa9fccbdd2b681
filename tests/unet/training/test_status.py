"""The status of a training, from its folder alone."""

from __future__ import annotations

import csv

import pytest

from unet import UNetConfig
from unet.recipe.training_config import Recipe, TrainingConfig
from unet.training.checkpoint import load_newest, newest_checkpoint, save_checkpoint
from unet.training.learner import Learner
from unet.training.logs import CsvLog
from unet.training.messages import StepsDone, Validated
from unet.training.ownership import take_over
from unet.training.status import find_training, read_training_status

RECIPE = Recipe(
    network=UNetConfig(dims=2, base_channels=2, levels=2), training=TrainingConfig(steps=400)
)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Return a folder with the checkpoints of steps 40 and 60."""
    folder = tmp_path_factory.mktemp("checkpoints")
    learner = Learner(RECIPE.network, RECIPE.training, device="cpu")
    for step in (40, 60):
        record = {"recipe": RECIPE.to_dict(), "batch": 2}
        save_checkpoint(learner.checkpoint(step, record), folder)
    return folder


@pytest.fixture
def folder(checkpoints, tmp_path):
    """Return the folder of a training that has logged 70 steps and a validation."""
    place = tmp_path / "w.training"
    take_over(place)
    for path in checkpoints.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    log = CsvLog(place / "log.csv")
    log.hear(steps(60, [2.0] * 60, patches_per_s=6.0))
    scores = {"pixel_error": 0.1, "iou": (0.9, 0.5), "dice": (0.9, 0.6), "mean_iou": 0.7}
    log.hear(Validated(step=60, loss=0.4, **scores, picture=""))
    log.hear(steps(70, [1.0] * 10, patches_per_s=8.0))
    return place


def steps(step, losses, *, patches_per_s):
    return StepsDone(
        step=step, steps=400, loss=sum(losses) / len(losses), losses=tuple(losses),
        learning_rate=1e-3, patches_per_s=patches_per_s, wait_share=0.0,
    )  # fmt: skip


def status_of(folder):
    return read_training_status(*find_training(str(folder)))


def test_the_status_is_that_of_the_last_checkpoint_and_of_the_log(folder):
    status = status_of(folder)
    assert newest_checkpoint(folder).name == f"checkpoint-{status.saved_step:08d}.safetensors"
    assert status.saved_step == load_newest(folder).step == 60
    assert (status.done_step, status.steps) == (70, RECIPE.training.steps)
    with (folder / "log.csv").open(newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]
    assert status.loss == pytest.approx(sum(losses) / len(losses))
    assert dict(status.validation) == {
        "step": 60, "loss": 0.4, "pixel_error": 0.1, "mean_iou": 0.7
    }  # fmt: skip
    assert status.steps_per_s == 4.0, "eight patches, two per step"
    assert status.seconds_left == (400 - 70) / 4
    assert not status.is_complete


def test_a_training_is_found_by_its_folder_and_by_its_weights(folder, tmp_path):
    weights = tmp_path / "w.safetensors"
    assert find_training(str(folder)) == find_training(str(weights)) == (folder, weights)
    assert status_of(weights).weights is None
    weights.write_bytes(b"")
    assert status_of(folder).weights == weights


@pytest.mark.parametrize("name", ["gone.safetensors", "w.zarr", ".", "s3://bucket/w.safetensors"])
def test_what_is_not_a_training_is_left_to_others(name, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_training(name) is None


def test_a_training_is_complete_with_its_last_checkpoint_and_its_weights(folder, tmp_path):
    last = folder / "checkpoint-00000400.safetensors"
    last.write_bytes((folder / "checkpoint-00000060.safetensors").read_bytes())
    assert not status_of(folder).is_complete
    (tmp_path / "w.safetensors").write_bytes(b"")
    assert status_of(folder).is_complete
    assert status_of(folder).seconds_left == 0


def test_a_finished_training_that_is_being_made_longer_is_not_complete(folder, tmp_path):
    last = folder / "checkpoint-00000400.safetensors"
    last.write_bytes((folder / "checkpoint-00000060.safetensors").read_bytes())
    (tmp_path / "w.safetensors").write_bytes(b"")
    CsvLog(folder / "log.csv").hear(steps(401, [1.0], patches_per_s=8.0))
    status = status_of(folder)
    assert not status.is_complete
    assert (status.saved_step, status.done_step, status.steps) == (400, 401, None)


def test_damaged_files_count_as_missing(folder):
    (folder / "checkpoint-00000060.safetensors").write_bytes(b"\xff" * 100)
    assert status_of(folder).saved_step == 40
    (folder / "checkpoint-00000040.safetensors").write_bytes(b"")
    (folder / "log.csv").write_bytes(b"\xff\xfe,\n1,2\n")
    status = status_of(folder)
    assert (status.saved_step, status.done_step, status.steps, status.loss) == (0, 0, None, None)
    assert status.seconds_left is None


def test_only_the_end_of_a_long_log_is_read_in_whole_rows(folder, monkeypatch):
    monkeypatch.setattr("unet.training.status.TAIL_BYTES", 100)
    status = status_of(folder)
    assert (status.done_step, status.loss, status.steps_per_s) == (70, 1.0, 4.0)
