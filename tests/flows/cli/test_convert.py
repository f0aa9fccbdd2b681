"""``overtile convert`` in the shell: a result, or one line and nothing written."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tifffile
import zarr

from flows.cli.main import main

ZYX = np.random.default_rng(3).integers(0, 5, (3, 70, 90)).astype(np.uint8)


def test_a_stack_becomes_ome_zarr_and_status_shows_it(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "a.tif", ZYX, compression="zlib", photometric="minisblack")
    argv = ["convert", str(tmp_path / "a.tif"), str(tmp_path / "a.zarr")]
    assert main([*argv, "--workers", "1"]) == 0
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "a.zarr/0"), mode="r"), ZYX)
    told = capsys.readouterr().err
    assert "converting 3×70×90 voxels uint8" in told
    assert f"image: {tmp_path / 'a.zarr'}" in told
    assert main(["status", str(tmp_path / "a.zarr")]) == 0
    assert "complete" in capsys.readouterr().out


def test_labels_become_a_layer_of_neuroglancer(tmp_path, capsys):
    zarr.create_array(str(tmp_path / "a.zarr"), data=ZYX, dimension_names=["z", "y", "x"])
    argv = ["convert", str(tmp_path / "a.zarr"), str(tmp_path / "layer"), "--to", "precomputed"]
    assert main(argv) == 0
    assert (tmp_path / "layer" / "info").is_file()
    assert main(argv) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--time", "1"], "no time axis"),
        (["--level", "2"], "has no level 2"),
        (["--axes", "zy"], "axes 'zy' are 2, but the array has 3"),
        (["--shard", "64,100,100", "--chunk", "64,64,64"], "does not divide shard"),
        (["--channel", "0"], "no channel axis"),
        (["--to", "precomputed", "--overwrite"], "delete the folder first"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, capsys, more, line):
    tifffile.imwrite(tmp_path / "a.tif", ZYX, photometric="minisblack")
    assert main(["convert", str(tmp_path / "a.tif"), str(tmp_path / "a.zarr"), *more]) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(rf"overtile: .*{re.escape(line)}.*\n", err), err
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_a_location_is_not_converted_into_itself(tmp_path, capsys):
    zarr.create_array(str(tmp_path / "a.zarr"), data=ZYX, dimension_names=["z", "y", "x"])
    before = sorted(tmp_path.rglob("*"))
    for options in ([], ["--overwrite"]):
        assert main(["convert", str(tmp_path / "a.zarr"), str(tmp_path / "a.zarr"), *options]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
