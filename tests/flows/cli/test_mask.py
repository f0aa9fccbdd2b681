"""`overtile mask`: a mask, a picture, and what is kept."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import zarr
from PIL import Image


@pytest.fixture
def place(tmp_path, monkeypatch):
    raw = np.full((2, 80, 90), 10, "u1")
    raw[:, 20:60, 30:70] = 200
    zarr.create_array(tmp_path / "in.zarr", data=raw, dimension_names=("z", "y", "x"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_writes_mask_and_picture_and_states_the_share(place, shell):
    code, out, _ = shell("mask", "in.zarr", "tissue.zarr")
    assert code == 0
    kept = re.search(r"kept: (.*)% of 2×80×90 voxels, each 1×1×1 voxels of the input", out)
    assert float(kept[1]) == pytest.approx(22.2, abs=2.5)
    assert "tissue: brighter than" in out
    assert int(zarr.open_array("tissue.zarr/0", mode="r")[:].sum()) == pytest.approx(3200, abs=350)
    with Image.open("tissue.png") as image:
        assert image.size[0] > 800
    assert set(os.listdir()) == {"in.zarr", "tissue.zarr", "tissue.png"}


def test_it_replaces_a_mask_on_request_only(place, shell):
    assert shell("mask", "in.zarr", "tissue.zarr")[0] == 0
    code, out, err = shell("mask", "in.zarr", "tissue.zarr", "--tissue", "dark")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "exists: choose another output, or replace it with --overwrite" in err
    code, out, _ = shell("mask", "in.zarr", "tissue.zarr", "--tissue", "dark", "--overwrite")
    assert (code, "kept: 7" in out) == (0, True)


def test_bad_input_writes_nothing(place, shell):
    (place / "mine.png").write_text("mine")
    for words, line in (
        (("in.zarr", "m.zarr", "--picture", "mine.png"), "not made by overtile mask"),
        (("in.zarr", "m.zarr", "--picture", "gone/m.png"), "does not exist"),
        (("in.zarr", "in.zarr/m.zarr"), "inside the input"),
        (("gone.zarr", "m.zarr"), "does not exist"),
        (("in.zarr", "m.zarr", "--level", "3"), "no level 3"),
        (("in.zarr", "m.zarr", "--closing", "-1"), "--closing"),
        (("in.zarr", "m.zarr", "--tissue", "green"), "--tissue"),
        (("in.zarr", ""), "the path is empty"),
    ):
        code, out, err = shell("mask", *words)
        assert (code, out, err.count("\n")) == (2, "", 1), (words, err)
        assert line in err
    assert set(os.listdir()) == {"in.zarr", "mine.png"}


@pytest.mark.parametrize("damaged", [1, 3, 60])
def test_damaged_chunks_are_one_line(damaged, place):
    raw = np.random.default_rng(0).integers(0, 255, (6, 80, 90)).astype("u1")
    zarr.create_array("bad.zarr", data=raw, chunks=(1, 30, 30), dimension_names=("z", "y", "x"))
    chunks = sorted(path for path in (place / "bad.zarr/c").rglob("*") if path.is_file())
    for chunk in chunks[:damaged]:
        chunk.write_bytes(b"no chunk")
    command = [sys.executable, "-m", "flows.cli", "mask", "bad.zarr", "m.zarr"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # until its exit
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert "bad.zarr" in done.stderr
    assert set(os.listdir()) == {"in.zarr", "bad.zarr"}
