"""`overtile corrections`: what it prints, what it creates, and its errors."""

from __future__ import annotations

import json
import shlex
from types import SimpleNamespace

import numpy as np
import pytest
import zarr

from flows.cli.main import make_parser
from flows.text.corrections import applied_lines
from pipeline import segment_volume
from pipeline.base.location import Location
from pipeline.objects.tasks.intermediates import Intermediates
from pipeline.objects.tasks.since import INPUTS
from unet import UNetPredictor

SHAPE, BLOCK = (16, 32, 32), (8, 16, 16)


@pytest.fixture(scope="module")
def output(tmp_path_factory, weights, textured):
    folder = tmp_path_factory.mktemp("corrections")
    zarr.create_array(folder / "in.zarr", data=textured(SHAPE))
    predictor = UNetPredictor(weights("3d", class_names=["inside", "boundary"]), precision="fp32")
    segment_volume(
        str(folder / "in.zarr"), str(folder / "out.zarr"), predictor, block=BLOCK,
        outputs=("classes", "scores"),
    )  # fmt: skip
    return folder / "out.zarr"


def test_corrections_are_created_listed_and_applied(output, shell, tmp_path):
    painted = tmp_path / "painted.zarr"
    code, out, _ = shell("corrections", str(output), "--out", str(painted))
    assert (code, out.splitlines()) == (0, [
        f"corrections: {painted}, 16×32×32 voxels, nothing painted",
        "values: 0 unknown, 1 inside, 2 boundary",
        "paint these values in napari or any tool that writes Zarr, then run this command again",
    ])  # fmt: skip
    array, classes = (zarr.open_array(p) for p in (painted / "0", output / "labels/classes/0"))
    before = classes[9, 20, 20:24]
    array[9, 20, 20:24] = 2 - before
    code, out, err = shell("corrections", str(output), "--out", str(painted))
    lines = out.splitlines()
    assert lines[0] == f"corrections: {painted}, 4 voxels painted in 1 of 8 blocks"
    inside = int((before == 1).sum())
    assert lines[1:4] == [
        f"1 (inside): {inside} voxel{'s' * (inside != 1)}, {inside} of another class before",
        f"2 (boundary): {4 - inside} voxel{'s' * (inside != 3)}, {4 - inside} of another class "
        "before",
        "block 1,1,1, voxels 8:16,16:32,16:32: 4 voxels",
    ]
    assert err == "1/1 chunks\n"
    for line in lines[4:]:
        words = shlex.split(line.partition(": ")[2])
        make_parser().parse_args(words[1:])
        assert {words[1]} <= {"train", "segment", "corrections"}
    copy = tmp_path / "copy.zarr"
    code, out, _ = shell("corrections", str(output), "--out", str(painted), "--apply", str(copy))
    assert code == 0
    first, second = out.splitlines()
    assert first == (
        f"{copy}: 1 of 8 blocks written with corrections, the others copied; 0 of 0 shards of "
        "coarser levels copied"
    )
    make_parser().parse_args(shlex.split(second.partition(": ")[2])[1:])
    assert np.array_equal(zarr.open_array(copy / "labels/classes/0")[9, 20, 20:24], 1 - before)


def test_the_same_as_json(output, shell, tmp_path):
    painted = tmp_path / "painted.zarr"
    _, out, _ = shell("corrections", str(output), "--out", str(painted), "--json")
    created = json.loads(out)
    assert created["created"] is True
    assert created["values"] == {"0": "unknown", "1": "inside", "2": "boundary"}
    zarr.open_array(painted / "0")[0, 0, :3] = 1
    _, out, _ = shell("corrections", str(output), "--out", str(painted), "--json")
    found = json.loads(out)
    assert found["voxels"] == {"inside": 3, "boundary": 0}
    assert found["blocks"] == [{"block": [0, 0, 0], "voxels": 3}]
    assert (found["created"], found["applied"]) == (False, None)


def test_bad_input_is_one_line_exit_2_and_nothing_written(output, shell, tmp_path):
    def said(*words):
        code, out, err = shell("corrections", *map(str, words))
        assert (code, out, err.count("\n")) == (2, "", 1)
        return err

    place = tmp_path / "painted.zarr"
    volume = output.parent / "in.zarr"
    assert f"{volume} was not made by overtile" in said(volume)
    assert "does not exist: create it with overtile corrections, and paint in it" in said(
        output, "--out", place, "--apply", tmp_path / "copy.zarr"
    )
    assert "exists and holds no corrections" in said(output, "--out", output.parent / "in.zarr")
    assert "the output lies inside the segmentation" in said(
        output, "--out", output / "painted.zarr"
    )
    shell("corrections", str(output), "--out", str(place))
    assert "nothing is painted in" in said(
        output, "--out", place, "--apply", tmp_path / "copy.zarr"
    )
    assert not (tmp_path / "copy.zarr").exists()


def test_an_output_without_classes_is_refused(output, shell, tmp_path, weights):
    predictor = UNetPredictor(weights("3d"), precision="fp32")
    scores = tmp_path / "scores.zarr"
    segment_volume(
        str(output.parent / "in.zarr"), str(scores), predictor, block=BLOCK, outputs=("scores",)
    )
    code, _, err = shell("corrections", str(scores))
    assert (code, err) == (
        2,
        f"overtile: {scores} holds no classes: expected the output of overtile segment, with "
        "labels/classes; segment with --outputs classes or classes,scores\n",
    )
    assert not (tmp_path / "scores.corrections.zarr").exists()


@pytest.mark.parametrize("is_kept", [True, False])
def test_since_is_advised_only_where_the_earlier_objects_can_be_taken_over(is_kept, tmp_path):
    output = Location.parse(tmp_path / "out.zarr")
    if is_kept:
        Intermediates(output / "labels/objects").put_packed(INPUTS, "0.0.0", b"")
    segmented = SimpleNamespace(output=output, job={"outputs": ["classes", "scores"]})
    applied = SimpleNamespace(
        output=Location.parse(tmp_path / "new.zarr"), blocks=1, blocks_written=1, shards=1,
        shards_copied=0,
    )  # fmt: skip
    *_, line = applied_lines(applied, segmented)
    assert "overtile objects" in line
    assert ("--since" in line) == is_kept
