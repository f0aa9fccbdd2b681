"""``overtile evaluate``: the challenge and the watershed as one command each; bad input."""

from __future__ import annotations

import json
import os
import re
import signal

import numpy as np
import pytest
import zarr
from scipy import ndimage

from flows.cli.main import main
from flows.text.scores import OF_CLASSES
from pipeline import evaluate_volume


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with membranes, cells, and a score of membranes that is nearly right."""
    folder = tmp_path_factory.mktemp("place")
    random = np.random.default_rng(1)
    membrane = np.zeros((6, 32, 36), np.uint8)
    membrane[:, ::8] = membrane[:, :, ::9] = 1
    score = ndimage.gaussian_filter(membrane.astype(float), (0, 0.6, 0.6))
    score = np.clip(score + 0.1 * random.normal(size=score.shape), 0, 1).astype(np.float32)
    both = np.stack([1 - score, score])
    cells, _ = ndimage.label(membrane == 0)
    stated = {"dimension_names": ("z", "y", "x")}
    zarr.create_array(folder / "membrane.zarr", data=membrane, chunks=(1, 32, 36), **stated)
    zarr.create_array(folder / "cells.zarr", data=cells.astype(np.uint32), **stated)
    zarr.create_array(folder / "classes.zarr", data=(score > 0.5).astype(np.uint8), **stated)
    zarr.create_array(folder / "float.zarr", data=score)
    zarr.create_array(folder / "small.zarr", data=membrane[:5])
    named = {"channels": [{"label": "cell"}, {"label": "membrane"}]}
    root = zarr.create_group(folder / "scores.zarr")
    root.create_array("0", data=both, chunks=(2, 1, 32, 36))
    axes = [{"name": "c", "type": "channel"}, *({"name": a, "type": "space"} for a in "zyx")]
    scale = [{"type": "scale", "scale": [1, 1, 1, 1]}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    root.attrs["ome"] = {"version": "0.5", "multiscales": [image], "omero": named}
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe.json")
    return folder


@pytest.fixture
def shell(place, monkeypatch, capsys, one_worker):
    """Return a function that evaluates in the place: exit code, standard output and error."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers

    def run(*argv, cluster=True):
        where = ["--cluster", one_worker.scheduler.address] if cluster else []
        try:
            code = main(["evaluate", *argv, *where])
        except SystemExit as exit_:  # argparse leaves so
            code = exit_.code
        return (code, *capsys.readouterr())

    return run


def test_by_default_classes_are_compared_with_classes(shell):
    code, out, err = shell("classes.zarr", "membrane.zarr")
    assert (code, err) == (0, "")
    assert out.startswith("6×32×36 voxels, 6,912 of them counted\n")
    expected = evaluate_volume("classes.zarr", "membrane.zarr").classes
    assert f"classes: pixel error {expected.pixel_error:.4f}" in out
    row = next(line for line in out.splitlines() if line.startswith("  1 "))
    assert row.split()[3:] == [
        f"{figure[1]:.4f}"
        for figure in (expected.iou, expected.dice, expected.precision, expected.recall)
    ] + [f"{expected.truth_voxels[1]:,}"]


def test_every_figure_in_the_tables_of_classes_is_in_the_json(shell, place):
    for options, columns in (
        (GOOD, lambda told: told["classes"]["per_class"][0]),
        ((*CHALLENGE, "--thresholds", "0.5"), lambda told: told["pixels"]),
    ):
        assert shell(*options, "--json", "every.json")[0] == 0
        told = json.loads((place / "every.json").read_text())
        assert [name for name in OF_CLASSES.values() if name not in columns(told)] == []
    (place / "every.json").unlink()


CHALLENGE = ("scores.zarr", "membrane.zarr", "--scores", "membrane", "--objects", "components",
             "--per-slice", "--truth-objects", "0", "--slices", "2:6")  # fmt: skip


def test_the_challenge_is_one_command(shell, place):
    code, out, err = shell(*CHALLENGE, "--json", "out.json")
    assert (code, err) == (0, "")
    told = json.loads((place / "out.json").read_text())
    expected = evaluate_volume(
        "scores.zarr", "membrane.zarr", scores="membrane", objects="components", truth_objects=0,
        per_slice=True, slices=(2, 6),
    ).to_json()  # fmt: skip
    for values in (told, expected):
        values.pop("seconds")
    assert told == expected
    assert len(told["thresholds"]) == 19
    best = told["objects"]
    assert best["adapted_rand_error"] < 0.2
    assert "objects: connected components of each slice, boundary score < " in out
    assert "means over 4 slices" in out
    assert re.search(rf"adapted Rand error +{best['adapted_rand_error']:.4f} ", out)
    pixels = told["pixels"]
    assert pixels["class"] == "membrane"
    assert f"membrane where score >= {pixels['threshold']:g}, the best threshold: pixel error " \
           f"{pixels['pixel_error']:.4f}" in out  # fmt: skip
    assert not list(place.glob("*.part"))


def test_the_watershed_against_ids_is_one_command(shell, place):
    code, out, _ = shell(
        "scores.zarr", "cells.zarr", "--scores", "1", "--objects", "watershed", "--slices", "1:6",
        "--thresholds", "0.4:0.6:0.1", "--seed-distance", "1", "--json", "out.json",
    )  # fmt: skip
    assert code == 0
    told = json.loads((place / "out.json").read_text())
    assert [row["threshold"] for row in told["thresholds"]] == [0.4, 0.5, 0.6]
    assert told["settings"]["seed_distance"] == 1
    assert told["pixels"] is None
    assert "objects: boundary-seeded watershed, boundary score < " in out
    assert re.search(r"VOI \(bits\) +[\d.]+ +split [\d.]+ +merge [\d.]+", out)


def test_ids_against_ids_in_a_box(shell):
    code, out, _ = shell("cells.zarr", "cells.zarr", "--objects", "ids", "--box", "0:3,0:16,9:36")
    assert code == 0
    assert "3×16×27 voxels from 0,0,9, 1,296 of them counted" in out
    assert re.search(r"adapted Rand error +0\.0000 +precision 1\.0000 +recall 1\.0000", out)
    assert "threshold" not in out


def test_a_local_cluster_gives_the_same_figures(shell):
    _, expected, _ = shell("classes.zarr", "membrane.zarr")
    code, out, _ = shell("classes.zarr", "membrane.zarr", "--workers", "1", cluster=False)
    assert (code, out) == (0, expected)


def test_help_lists_the_options_and_fits_80_columns(shell, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = shell("--help", cluster=False)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    for word in ("PREDICTION", "TRUTH", "--json", "--scores", "--objects", "--truth-objects",
                 "--per-slice", "--slices", "--box", "--ignore", "--thresholds", "--cluster",
                 "--seed-distance"):  # fmt: skip
        assert word in out


TRUTH_OF_CLASSES = ("the truth has the values 0 and 1 only, read as one object in every slice: if "
                    "they are classes, pass --truth-objects 1")  # fmt: skip
CHOSEN = "the best threshold was chosen on the voxels that are scored"


def test_figures_that_may_mislead_are_noted_in_one_line_each(shell, place):
    flat = np.zeros_like(zarr.open_array(place / "membrane.zarr")[...])
    zarr.create_array(
        place / "flat.zarr", data=flat, dimension_names=["z", "y", "x"],
        config={"write_empty_chunks": True},
    )  # fmt: skip
    mask = zarr.open_array(place / "membrane.zarr")[...].astype(np.uint8) * 255
    zarr.create_array(place / "mask.zarr", data=mask, dimension_names=["z", "y", "x"])
    scores = ("scores.zarr", "cells.zarr", "--scores")
    cases = {
        ("scores.zarr", "membrane.zarr", *CHALLENGE[2:7]): {TRUTH_OF_CLASSES, CHOSEN},
        (*scores, "cell", "--objects", "watershed", "--thresholds", "0.5"):
            {"cell is taken for the boundary between objects, which lie where its score is low"},
        (*scores, "membrane", "--objects", "watershed", "--thresholds", "0.5"): set(),
        ("classes.zarr", "cells.zarr"): {"the prediction never has label 2, 3, 4, 5, 6, 7, 8"},
        ("classes.zarr", "membrane.zarr"): set(),
        ("classes.zarr", "mask.zarr"): {
            "the truth has the values 0 and 255 only, as a mask has, but classes are compared by "
            "their numbers: divide the truth by 255"},
        ("flat.zarr", "membrane.zarr"): {"every voxel has class 0 in the prediction"},
        ("flat.zarr", "flat.zarr"): set(),
    }  # fmt: skip
    for argv, expected in cases.items():
        code, out, err = shell(*argv, "--json", "noted.json")
        assert code == 0
        assert all(line.startswith("slices: ") for line in err.splitlines())  # on a busy machine
        notes = [line for line in out.splitlines() if line.startswith("note: ")]
        assert len(notes) == len(expected), out
        assert all(any(line.startswith(f"note: {one}") for line in notes) for one in expected), out
        told = json.loads((place / "noted.json").read_text())
        assert [f"note: {note}" for note in told["notes"]] == notes
        assert told["threshold_chosen_on_scored_voxels"] == (CHOSEN in out)
    (place / "noted.json").unlink()


def test_ids_of_objects_are_not_taken_for_classes(shell, place):
    ids = np.arange(6 * 32 * 36).reshape(6, 32, 36) // 60
    zarr.create_array(place / "ids.zarr", data=ids.astype(np.uint8))
    code, out, err = shell("classes.zarr", "ids.zarr")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "114 values that the prediction never has" in err
    assert "--objects watershed" in err
    zarr.create_array(place / "fewer.zarr", data=(ids // 4).astype(np.uint8))
    assert "27 values that the prediction never has" in shell("classes.zarr", "fewer.zarr")[2]


def test_true_objects_are_named_as_well_as_numbered(shell):
    number = CHALLENGE.index("0")
    named = (*CHALLENGE[:number], "Cell", *CHALLENGE[number + 1 :])
    assert shell(*named) == shell(*CHALLENGE)


GOOD = ("classes.zarr", "membrane.zarr")
BAD = {
    "figures over metadata": (
        (*GOOD, "--json", "classes.zarr/zarr.json"),
        r"zarr\.json exists and holds no figures of overtile evaluate: choose another file",
    ),
    "figures into a pipe": (
        (*GOOD, "--json", "pipe.json"),
        r"pipe\.json exists and holds no figures",
    ),
    "figures over voxels": ((*GOOD, "--json", "membrane.zarr/c/0/0/0"), r"holds no figures"),
    "no prediction": (("gone.zarr", "membrane.zarr"), r"gone\.zarr does not exist"),
    "no truth": (("classes.zarr", "gone.zarr"), r"gone\.zarr does not exist"),
    "another shape": (("classes.zarr", "small.zarr"), r"6×32×36 voxels, the truth 5×32×36"),
    "a truth of floats": (("classes.zarr", "float.zarr"), r"expected whole numbers"),
    "no such class": ((*CHALLENGE[:3], "wall"), r"no channel 'wall'; it has 0 \(cell\), 1"),
    "no slices": (
        (*GOOD, "--slices", "4"),
        r"--slices: '4': expected slices as A:B, such",
    ),
    "slices outside": ((*GOOD, "--slices", "4:9"), r"4:9,0:32,0:36 is not inside"),
    "no box": ((*GOOD, "--box", "1:2,3:4"), r"--box: '1:2,3:4': expected a box as Z0:Z1"),
    "a box backwards": ((*GOOD, "--box", "0:1,5:2,0:9"), r"ends before it starts"),
    "no thresholds": (
        (*GOOD, "--thresholds", "a"),
        r"--thresholds: 'a': expected thresholds as",
    ),
    "steps of nothing": ((*GOOD, "--thresholds", "0.1:0.5:0"), r"expected thresholds as 0\.1"),
    "thresholds without end": ((*GOOD, "--thresholds", "0:1:1e-9"), r"got 1,000,000,001"),
    "no objects": ((*GOOD, "--objects", "cells"), r"--objects: invalid choice: 'cells'"),
    "no true objects": (
        (
            "scores.zarr",
            "membrane.zarr",
            "--scores",
            "1",
            "--objects",
            "components",
            "--truth-objects",
            "cel",
        ),
        r"cel \(did you mean cell\?\): expected ids, or a class, by number or name: 0 \(cell\), 1",
    ),
    "classes without names": (
        (*GOOD, "--objects", "components", "--truth-objects", "cell"),
        r"neither the truth nor the",
    ),
    "a seed outside": ((*GOOD, "--seed-distance", "-1"), r"--seed-distance -1"),
    "a file in no folder": ((*GOOD, "--json", "gone/out.json"), r"gone/out\.json cannot be writ"),
    "a folder for a file": ((*GOOD, "--json", "folder"), r"folder cannot be written"),
    "no file": ((*GOOD, "--json", ""), r"--json '': expected a file"),
    "a file with a long name": ((*GOOD, "--json", "a" * 300), r"aaa cannot be written"),
    "no worker": ((*GOOD, "--workers", "0"), r"--workers 0"),
    "no cluster": ((*GOOD, "--cluster", "nowhere"), r"cluster 'nowhere': expected local"),
    "nothing": ((), r"PREDICTION, TRUTH; see overtile evaluate --help"),
}


@pytest.mark.parametrize(("argv", "says"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_exit_2_and_nothing_is_written(argv, says, shell, place):
    before = sorted(place.rglob("*"))
    code, out, err = shell(*argv, cluster=False)
    assert (code, out) == (2, "")
    assert err.startswith("overtile: ")
    assert err.count("\n") == 1
    assert re.search(says, err), err
    assert sorted(place.rglob("*")) == before


def test_writing_figures_leaves_other_files_unchanged(shell, place):
    (place / "figures.json.part").write_text("somebody's work")
    before = {*place.iterdir()}
    assert shell(*GOOD, "--json", "figures.json")[0] == 0
    assert (place / "figures.json.part").read_text() == "somebody's work"
    assert {*place.iterdir()} - before == {place / "figures.json"}
    (place / "figures.json.part").unlink()


def test_errors_found_by_workers_are_one_line_too(shell, place):
    before = sorted(place.rglob("*"))
    code, out, err = shell(
        "cells.zarr", "membrane.zarr", "--objects", "ids", "--truth-objects", "9", "--json", "x"
    )
    assert (code, out) == (2, "")
    assert re.fullmatch(r"overtile: the truth has no object there: .*\n", err)
    assert sorted(place.rglob("*")) == before
