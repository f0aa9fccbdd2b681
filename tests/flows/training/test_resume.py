"""An existing --out is not lost: foreign weights, another training, two trainings at once."""

from __future__ import annotations

import shutil
import signal
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import zarr

from flows.cli.main import main
from flows.options.train import LabelledVolume, TrainOptions
from flows.text.training import start_lines
from flows.training.prepare import prepare_training
from pipeline.base.errors import TrainingError, TrainingFailedError
from unet.training.loop import train
from unet.training.ownership import take_over
from unet.training.ranks import Alone
from unet.training.run import write_weights

CONFIG = """
network = { dims = 2, base_channels = 2, levels = 2 }
[training]
steps = 4
batch = 1
patch = [16, 16]
precision = "fp32"
checkpoint_every = 2
augment = { elastic_sigma = 1.0 }
"""
SHAPE = (3, 40, 44)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a labelled volume, and float volumes with NaN and infinite values."""
    folder = tmp_path_factory.mktemp("place")
    raw = np.random.default_rng(0).integers(0, 255, SHAPE, "u1")
    holes = raw.astype("f4")
    holes[1, 5, 5:8] = np.nan, np.inf, -np.inf
    hidden = raw.astype("f4")
    hidden[2] = np.nan
    for name, array in {
        "raw": raw, "labels": (raw > 127).astype("u1"), "holes": holes, "hidden": hidden,
    }.items():  # fmt: skip
        zarr.create_array(
            folder / f"{name}.zarr", data=array, chunks=(1, 40, 44), dimension_names=list("zyx")
        )
    (folder / "config.toml").write_text(CONFIG)
    return folder


def prepared(place, out, *, raw="raw", **options):
    pair = LabelledVolume(volume=str(place / f"{raw}.zarr"), labels=str(place / "labels.zarr"))
    options = {"config": str(place / "config.toml"), "resume": True, **options}
    return prepare_training([pair], str(out), TrainOptions(**options))


def trained(training):
    """Train to the end, in this process, and write the weights."""
    job = training.job(batch=1)  # its normalisation needs no measuring
    write_weights(training, job, train(job, Alone()))


@pytest.fixture(scope="module")
def finished(place, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    trained(prepared(place, folder / "w.safetensors"))
    return folder


@pytest.fixture
def again(finished, tmp_path):
    """Return where the weights of a copy of the finished training are."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path / "w.safetensors"


def listing(folder):
    return {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in folder.rglob("*")}


def shell(place, out, monkeypatch, *more):
    """Run `overtile train --resume` on a cluster that does not exist."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers
    return main([
        "train", "--volume", str(place / "raw.zarr"), "--labels", str(place / "labels.zarr"),
        "--config", str(place / "config.toml"), "--out", str(out), "--resume",
        "--cluster", "tcp://127.0.0.1:1", *more,
    ])  # fmt: skip


def test_resuming_a_finished_training_reports_it_and_changes_no_byte(
    place, again, monkeypatch, capsys
):
    before = listing(again.parent)
    assert shell(place, again, monkeypatch) == 0
    assert capsys.readouterr().err == f"done already: 4 steps; weights: {again}\n"
    assert listing(again.parent) == before


def test_missing_weights_or_those_of_another_dtype_are_made_from_the_last_checkpoint(place, again):
    assert not prepared(place, again, dtype="float16").is_done
    again.unlink()
    assert not prepared(place, again).is_done
    assert prepared(place, again).done_steps == 4


@pytest.mark.parametrize("kind", ["text", "others' weights", "half of the weights"])
def test_a_file_not_made_by_this_training_is_never_overwritten(
    kind, place, again, tmp_path, monkeypatch, capsys
):
    if kind == "text":
        again.write_text("my precious notes")
    elif kind == "others' weights":
        other = tmp_path / "other.safetensors"
        trained(prepared(place, other, seed=7))
        shutil.copy(other, again)
    else:
        again.write_bytes(again.read_bytes()[:100])
    before = listing(tmp_path)
    assert shell(place, again, monkeypatch) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "w.safetensors' exists already and was not made by this training: move it" in line
    assert listing(tmp_path) == before


def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(place, again):
    again.unlink()
    newest = again.parent / "w.training/checkpoint-00000004.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    training = prepared(place, again)
    assert training.done_steps == 2
    (line,) = [line for line in start_lines(training) if line.startswith("note: ")]
    assert "checkpoint-00000004.safetensors' is not a checkpoint, or is damaged" in line


def test_another_patch_than_before_is_refused_before_anything_starts(place, again, monkeypatch):
    again.unlink()
    monkeypatch.setattr("unet.training.prepare.settled_core", lambda *_: (1, 20, 20))
    with pytest.raises(TrainingError, match=r"patches of \[1, 16, 16\], now they are \[1, 20, 20"):
        prepared(place, again)


def test_nan_and_infinite_values_are_reported_once_per_volume(place, tmp_path):
    out = tmp_path / "w.safetensors"
    assert prepared(place, out).notes == ()
    (note,) = prepared(place, out, raw="holes", validation_slices=(1, 2)).notes
    said = "3 of 5,280 values checked are NaN or infinite: they are read as 0"
    assert note == f"{place / 'holes.zarr'}: {said}"
    (note,) = prepared(place, out, raw="hidden", validation_slices=(2, 3)).notes
    assert "1,760 of 5,280" in note


def test_of_two_trainings_with_one_out_the_older_one_stops_and_saves_no_more(place, tmp_path):
    job = prepared(place, tmp_path / "w.safetensors", steps=40).job(batch=1)
    older = take_over(job.directory)
    steps = count(1)

    def newer_one_comes():
        if next(steps) == 7:  # called after each step
            take_over(job.directory)
        return False

    with pytest.raises(TrainingFailedError, match=r"another training has taken over .*w\.training"):
        train(replace(job, owner=older), Alone(stop=newer_one_comes))
    assert sorted(path.stem for path in job.directory.glob("checkpoint-*")) == [
        "checkpoint-00000004", "checkpoint-00000006"
    ]  # fmt: skip


def test_a_killed_training_is_resumed_at_once(place, tmp_path):
    job = prepared(place, tmp_path / "w.safetensors").job(batch=1)
    take_over(job.directory)  # by a process that was killed
    end = train(replace(job, owner=take_over(job.directory)))
    assert end.finished


def test_a_folder_that_cannot_be_taken_over_is_one_line(tmp_path):
    (tmp_path / "w.training").write_text("in the way")
    with pytest.raises(TrainingFailedError, match=r"w\.training' cannot be written"):
        take_over(tmp_path / "w.training")
