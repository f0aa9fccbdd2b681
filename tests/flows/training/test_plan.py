"""`overtile train --plan`: figures and a picture of patches, and no other file."""

from __future__ import annotations

import json
import re
import signal

import numpy as np
import pytest

from flows.cli.main import main
from flows.options.train import LabelledVolume, TrainOptions
from flows.text.training_plan import UNKNOWN, patches_picture
from flows.training.prepare import prepare_training
from pipeline.report.pictures import CLASS_COLOURS, software_of
from unet.samples.rules.rule import IGNORED
from unet.training.loop import train
from unet.training.plan.patches import Patch
from unet.training.ranks import Alone

CONFIG = """
class_names = ["inside", "edge"]
network = { dims = 2, base_channels = 2, levels = 2 }
[training]
steps = 40
batch = 1
patch = [12, 12]
precision = "fp32"
validate_every = 20
checkpoint_every = 5
"""


@pytest.fixture(scope="module")
def place(labelled_folder):
    """Return a folder with a volume, its labels and a config."""
    return labelled_folder(CONFIG, depth=3)


@pytest.fixture
def planned(place, tmp_path, one_worker, monkeypatch, capsys):
    """Return a function that plans a training of w.safetensors: exit code, output and error."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers
    monkeypatch.chdir(tmp_path)

    def run(*more):
        code = main([
            "train", "--volume", str(place / "raw.zarr"), "--labels", str(place / "labels.zarr"),
            "--config", str(place / "config.toml"), "--validation-slices", "2:3",
            "--out", "w.safetensors", "--cluster", one_worker.scheduler.address, *more,
        ])  # fmt: skip
        return (code, *capsys.readouterr())

    return run


def rows_of(out):
    """Return the values of a plan by their names."""
    return dict(re.split(r"  +", line.strip(), maxsplit=1) for line in out.splitlines()
                if re.match(r"\S.*  ", line))  # fmt: skip


def test_a_plan_shows_figures_and_leaves_only_the_picture(planned, tmp_path):
    code, out, err = planned("--plan")
    assert code == 0, err
    assert [path.name for path in tmp_path.iterdir()] == ["w.plan.png"]
    assert software_of(tmp_path / "w.plan.png") == "overtile train --plan"
    rows = rows_of(out)
    assert re.fullmatch(
        r"2-D U-Net of 2 levels, 2 base channels, [\d,]+ parameters", rows["network"]
    )
    assert re.fullmatch(r"inside [\d.]+ %, edge [\d.]+ %", rows["classes"])
    assert rows["known"] == "100.0 % of the voxels"
    assert rows["batch"] == "1 patch per step"
    assert rows["ranks"] == "1 on cpu"
    assert re.fullmatch(
        r"[\d.]+ [MG]iB at its peak \(its whole process\)", rows["memory of a rank"]
    )
    assert re.search(r"median of 10 \(.* s to .* s\); [\d.<>]+ % of it waiting", rows["step"])
    assert re.search(r": .* for 40 steps, .* for 2 validations$", rows["time"])
    assert "resuming" not in rows
    assert planned("--plan")[0] == 0, "the picture of an earlier plan is replaced"


def test_the_json_holds_the_figures_and_the_picture_is_where_it_was_asked_for(planned, tmp_path):
    code, out, err = planned("--plan", "--json", "--plan-picture", "p.png", "--batch", "2")
    assert code == 0, err
    plan = json.loads(out)
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]
    assert plan["picture"] == str(tmp_path / "p.png")
    assert (plan["batch"], plan["patches"], plan["validations"]) == (2, 80, 2)
    assert plan["patch"] == [1, 12, 12]
    assert sum(plan["classes"].values()) == pytest.approx(1)
    assert plan["class_counts"] == pytest.approx(
        [share * plan["voxels"] for share in plan["classes"].values()]
    )
    assert len(plan["steps_s"][0]) == 10


def test_a_plan_of_a_training_that_has_begun_says_what_is_resumed_and_changes_nothing(
    planned, place, tmp_path
):
    pair = LabelledVolume(volume=str(place / "raw.zarr"), labels=str(place / "labels.zarr"))
    options = TrainOptions(config=str(place / "config.toml"), validation_slices=(2, 3))
    job = prepare_training([pair], str(tmp_path / "w.safetensors"), options).job(batch=1)
    asked = iter(range(1, 100))
    train(job, Alone(stop=lambda: next(asked) >= 7))
    before = contents(tmp_path)
    code, out, err = planned("--plan")
    assert code == 0, err
    assert rows_of(out)["resuming"].startswith("7 of 40 steps are done (")
    assert " for 33 steps, " in rows_of(out)["time"]
    (tmp_path / "w.plan.png").unlink()
    assert contents(tmp_path) == before
    code, out, err = planned("--plan", "--seed", "4")
    assert (code, out) == (2, "")
    assert "the checkpoint was made with training.seed = 0, now it is 4" in err


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


BAD = {
    "a picture without a plan": (
        ("--plan-picture", "p.png"), "--plan-picture needs --plan: it shows a plan"),
    "JSON without a plan": (("--json",), "--json needs --plan: it shows a plan and trains nothing"),
    "a picture of another format": (
        ("--plan", "--plan-picture", "p.jpg"), "picture p.jpg: expected a name that ends in .png"),
    "a picture in no folder": (("--plan", "--plan-picture", "gone/p.png"), "does not exist"),
    "a picture without a name": (("--plan", "--plan-picture", ""), "expected the path of a PNG"),
    "a picture of the user": (("--plan", "--plan-picture", "mine.png"), "was not made by overtile"),
    "no steps": (("--plan", "--steps", "0"), "--steps 0"),
    "slices outside": (("--plan", "--validation-slices", "4:9"), "which has 3"),
}  # fmt: skip


@pytest.mark.parametrize(("more", "says"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_exit_2_and_nothing_is_written(more, says, planned, tmp_path):
    (tmp_path / "mine.png").write_bytes(b"")
    code, out, err = planned(*more)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert says in err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]


def test_targets_that_are_not_classes_are_drawn_by_their_channels():
    channels = np.zeros((2, 420, 420), np.float32)
    channels[0, :50] = 1
    patch = Patch(0, 0, channels[:1], channels, channels)
    picture = patches_picture((patch,), ("affinity -1,0", "affinity 0,-1"))
    assert (picture == (255, 0, 0)).all(axis=2).sum() == 50 * 420


def test_the_picture_has_a_row_per_patch_and_unknown_voxels_are_grey(tmp_path):
    classes = np.zeros((420, 420), np.int64)
    classes[:100], classes[-100:] = 1, IGNORED
    weights = np.zeros((420, 420), np.float32)
    weights[:, :200] = 1  # black and white: no grey but that of unknown voxels
    patch = Patch(0, 0, weights[None], classes, weights)
    one, three = (patches_picture((patch,) * n, ("in", "edge")) for n in (1, 3))
    assert one.shape[1] == three.shape[1] > 3 * 420
    assert three.shape[0] - one.shape[0] > 2 * 420

    def pixels(picture, colour):
        return int((picture == colour).all(axis=2).sum())

    assert 100 * 420 <= pixels(one, UNKNOWN) < 110 * 420
    assert pixels(three, UNKNOWN) >= 3 * 100 * 420
    assert pixels(one, CLASS_COLOURS[1]) >= 100 * 420
