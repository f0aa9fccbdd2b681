"""Which weights a training writes: the best or the last, and never none where some were."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import zarr
from safetensors.torch import load_file

from flows.text.weights import weights_text
from pipeline import open_labelled
from pipeline.base.errors import RunStoppedError, TrainingError, TrainingFailedError
from unet import read_weights_info, train_unet
from unet.scoring.scores import Scores
from unet.training import loop
from unet.training.prepare import prepare_training
from unet.training.status import read_training_status

CONFIG = {
    "network": {"dims": 2, "base_channels": 2, "levels": 2},
    "training": {
        "steps": 6, "patch": [8, 8], "batch": 1, "precision": "fp32", "validate_every": 2,
        "checkpoint_every": 2, "border_weight": 0.0, "augment": {"elastic_sigma": 0.0},
    },
}  # fmt: skip
SCORES = {2: 0.3, 4: 0.8, 6: 0.5, 8: 0.9, 10: 0.1}


@pytest.fixture
def place(tmp_path):
    raw = np.random.default_rng(0).integers(0, 255, (3, 20, 20), "u1")
    zarr.create_array(tmp_path / "raw.zarr", data=raw)
    zarr.create_array(tmp_path / "labels.zarr", data=(raw > 128).astype("u1"))
    return tmp_path


@pytest.fixture
def scripted(monkeypatch):
    """Validations have the scores of a table, by step."""

    real = loop.validate

    def validate(learner, *arguments, **options):
        _, picture = real(learner, *arguments, **options)
        value = SCORES[int(next(iter(learner.optimiser.state.values()))["step"])]
        return Scores(1 - value, 1 - value, (value,) * 2, (value,) * 2, value), picture

    monkeypatch.setattr(loop, "validate", validate)


def volumes(place, slices=(2, 3)):
    return open_labelled(
        [(str(place / "raw.zarr"), str(place / "labels.zarr"))], validation_slices=slices
    )


def config(**training):
    return {**CONFIG, "training": {**CONFIG["training"], **training}}


def trained(place, *, slices=(2, 3), resume=True, **options):
    names = {"run_ranks", "dtype", "listeners"} & options.keys()
    others = {name: options.pop(name) for name in names}
    out = place / "w.safetensors"
    train_unet(volumes(place, slices), out, config=config(**options), resume=resume, **others)
    return out


def same(one, other):
    left, right = load_file(one), load_file(other)
    return left.keys() == right.keys() and all(left[n].equal(right[n]) for n in left)


def stated(path, *names):
    provenance = read_weights_info(path).provenance
    return tuple(provenance.get(name) for name in names)


def test_out_holds_the_best_weights_and_the_folder_the_last(place, scripted):
    out, folder = trained(place), place / "w.training"
    assert same(out, folder / "best.safetensors")
    assert not same(out, folder / "last.safetensors")
    names = ("kept", "steps", "steps_trained", "metric", "score", "schedule")
    assert stated(out, *names) == ("best", 4, 6, "mean_iou", 0.8, [[0, 6]])
    assert stated(folder / "last.safetensors", *names) == (
        "last", 6, 6, "mean_iou", 0.5, [[0, 6]]
    )  # fmt: skip
    assert stated(out, "scores")[0]["step"] == 4
    info = read_weights_info(folder / "best.safetensors")
    assert info.class_names == read_weights_info(out).class_names
    assert info.normalisation == read_weights_info(out).normalisation
    text = " ".join(weights_text(read_weights_info(out)).split())
    assert "weights of step 4 of 6, the best validation (mean IoU 0.8000)" in text


def test_a_finished_training_writes_the_last_weights_when_asked_and_the_best_again(place, scripted):
    out, folder = trained(place), place / "w.training"
    before = (folder / "checkpoint-00000006.safetensors").stat().st_mtime_ns
    for kept in ("last", "best"):
        trained(place, kept_weights=kept)
        assert same(out, folder / f"{kept}.safetensors")
        assert stated(out, "kept") == (kept,)
        assert prepared(place, kept_weights=kept).is_done
    assert (folder / "checkpoint-00000006.safetensors").stat().st_mtime_ns == before


def prepared(place, **options):
    return prepare_training(
        volumes(place), place / "w.safetensors", config=config(**options), resume=True
    )


def test_the_preset_of_the_paper_and_a_training_without_validation_write_the_last(place, scripted):
    assert stated(trained(place, preset="unet-2015", optimiser="adamw"), "kept") == ("last",)
    shutil.rmtree(place / "w.training")
    (place / "w.safetensors").unlink()
    out = trained(place, slices=None)
    assert stated(out, "kept", "steps", "metric", "scores") == ("last", 6, None, {})
    assert not list((place / "w.training").glob("*t.safetensors"))


def test_a_longer_training_replaces_the_weights_at_its_end_only(place, scripted):
    out = trained(place)
    content = out.read_bytes()

    class Leaving:
        rank, world_size, device, yielded = 0, 1, "cpu", "left"

        def should_stop(self):
            return True

        def should_regroup(self):
            return False

        def report(self, payload):
            pass

        def barrier(self):
            pass

    with pytest.raises(RunStoppedError, match="checkpoint-00000007"):
        trained(place, steps=10, run_ranks=lambda function, **_: [function(Leaving())])
    assert out.read_bytes() == content
    trained(place, steps=10)
    assert stated(out, "kept", "steps", "steps_trained", "score") == ("best", 8, 10, 0.9)
    assert stated(out, "schedule") == ([[0, 6], [6, 10]],)
    assert prepared(place, steps=10).is_done
    with pytest.raises(TrainingError, match=r"^steps \(6\): .*10 of 10 steps.*--steps 10, or more"):
        prepared(place)


def test_an_early_stop_is_done_until_patience_or_steps_grow(place, scripted):
    out = trained(place, steps=10, patience=1)
    assert stated(out, "steps", "steps_trained") == (4, 6)
    assert prepared(place, steps=10, patience=1).is_done
    status = read_training_status(place / "w.training", out)
    assert (status.is_complete, status.stopped_early, status.saved_step) == (True, True, 6)
    assert status.seconds_left is None
    assert not prepared(place, steps=10, patience=2).is_done
    assert prepared(place, steps=12, patience=1).progress.schedule.cycles == ((0, 10), (6, 12))
    with pytest.raises(TrainingError, match=r"^steps \(8\): .* 6 of 10 steps"):
        prepared(place, steps=8, patience=1)


@pytest.mark.parametrize("damage", ["missing", "another step's"])
def test_best_weights_that_are_lost_are_one_line_with_a_remedy(damage, place, scripted):
    out, folder = trained(place), place / "w.training"
    out.unlink()
    best = folder / "best.safetensors"
    if damage == "missing":
        best.unlink()
    else:
        best.write_bytes((folder / "last.safetensors").read_bytes())
    with pytest.raises(TrainingFailedError, match="resume with --kept-weights last") as caught:
        trained(place)
    assert "\n" not in str(caught.value)
    trained(place, kept_weights="last")
    assert same(out, folder / "last.safetensors")


def test_weights_of_another_schedule_are_never_overwritten(place, scripted):
    out = trained(place, steps=8)
    other = place / "other.safetensors"
    out.rename(other)
    shutil.rmtree(place / "w.training")
    trained(place)
    other.rename(out)
    with pytest.raises(TrainingError, match="was not made by this training"):
        prepared(place)


def test_a_metric_without_validation_is_refused_before_anything_is_written(place):
    with pytest.raises(TrainingError, match=r"^metric \(loss\): nothing is held out"):
        trained(place, slices=None, metric="loss")
    assert not (place / "w.training").exists()
