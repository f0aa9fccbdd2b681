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


def test_objects_become_a_tiff_and_a_file_is_replaced_on_request_only(tmp_path, capsys):
    ids = ZYX.astype(np.uint32) * 9000
    zarr.create_array(str(tmp_path / "a.zarr"), data=ids, dimension_names=["z", "y", "x"])
    argv = ["convert", str(tmp_path / "a.zarr"), str(tmp_path / "a.TIF")]
    assert main(argv) == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.TIF"), ids)
    told = capsys.readouterr().err.splitlines()
    assert told[-1] == f"image: {tmp_path / 'a.TIF'} (ImageJ TIFF, 3 pages of uint16)"
    assert "note: the image states no voxel size in a unit of length: the file has none" in told
    before = (tmp_path / "a.TIF").stat().st_mtime_ns
    assert main(argv) == 2
    assert "exists: choose another name, or replace it with --overwrite" in capsys.readouterr().err
    assert (tmp_path / "a.TIF").stat().st_mtime_ns == before
    assert main([*argv, "--overwrite", "--level", "0"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.TIF", "a.zarr"]


@pytest.mark.parametrize(
    ("output", "more", "line"),
    [
        ("gone/b.tif", [], "choose a file in a writable folder"),
        ("folder.tif", [], "is a folder: pass another name, or --to ome-zarr"),
        ("a.zarr/b.tif", [], "the output lies inside the input"),
        ("s3://bucket/b.tif", [], "TIFF is written to local files only"),
        ("b.tif", ["--shard", "1,64,64"], "--shard is for OME-Zarr"),
        ("layer", ["--to", "precomputed", "--chunk", "1,64,64"], "--chunk is for OME-Zarr"),
        ("b.tiff", ["--channel", "1"], "no channel axis"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_nothing_is_written(
    tmp_path, capsys, output, more, line
):
    zarr.create_array(str(tmp_path / "a.zarr"), data=ZYX, dimension_names=["z", "y", "x"])
    (tmp_path / "folder.tif").mkdir()
    before = sorted(tmp_path.rglob("*"))
    place = output if "://" in output else str(tmp_path / output)
    assert main(["convert", str(tmp_path / "a.zarr"), place, *more]) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(rf"overtile: .*{re.escape(line)}.*\n", err), err
    assert sorted(tmp_path.rglob("*")) == before


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
