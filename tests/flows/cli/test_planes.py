"""A stack of three or four slices whose file says channels, or nothing: --axes zyx is the way out.

Python's tifffile writes such a stack as the colours of one image, unless it is told otherwise.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tifffile
import zarr

from pipeline.base.location import Location
from pipeline.volume.find_labels import ReadAs, find_labelled
from pipeline.volume.mask import find_mask
from pipeline.volume.volume import find_volume

COLOURS = {"photometric": "rgb", "planarconfig": "separate"}
WRITERS = {
    "tifffile": COLOURS,  # by default, up to version 2026.3 at least
    "without metadata": {"metadata": None, **COLOURS},
    "ImageJ": {"imagej": True},
    "OME": {"ome": True},
}
SILENT = ("tifffile", "without metadata")
"""Writers whose files do not name their axes."""


def write(path, array, writer):
    tifffile.imwrite(path, array, **WRITERS[writer])
    assert tifffile.TiffFile(path).series[0].axes in ("SYX", "CYX")


@pytest.fixture(params=zip(WRITERS, (3, 4, 3, 4), strict=True), ids=str)
def place(request, tmp_path, textured, weights, monkeypatch):
    """A folder with a stack and its labels, each as such a file and as a Zarr array of z, y, x."""
    writer, count = request.param
    stack = textured((count, 60, 66))
    labels = (stack > 128).astype(np.uint8)
    for name, array in (("stack", stack), ("labels", labels)):
        write(tmp_path / f"{name}.tif", array, writer)
        zarr.create_array(tmp_path / f"{name}.zarr", data=array, dimension_names=list("zyx"))
    shutil.copy(weights("2d", voxel_size_um=[1, 1]), tmp_path / "w.safetensors")
    monkeypatch.chdir(tmp_path)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path.parent / "home"))
    return writer


SEGMENT = ("stack.tif", "out.zarr", "--weights", "w.safetensors")
REFUSED = {
    "segment": ("submit", "segment", *SEGMENT, "--dry-run"),
    "plan": ("plan", *SEGMENT),
    "preview": ("preview", "stack.tif", "--weights", "w.safetensors"),
    "labels of train": (
        "submit", "train", "--volume", "stack.zarr", "--labels", "labels.tif", "--out",
        "new.safetensors", "--dry-run"),
    "volume of train": (
        "submit", "train", "--volume", "stack.tif", "--labels", "labels.zarr", "--out",
        "new.safetensors", "--dry-run"),
    "both of train": (
        "submit", "train", "--volume", "stack.tif", "--labels", "labels.tif", "--out",
        "new.safetensors", "--dry-run"),
    "truth of evaluate": ("evaluate", "labels.zarr", "labels.tif"),
    "prediction of evaluate": ("evaluate", "labels.tif", "labels.zarr"),
    "scores of evaluate": ("evaluate", "stack.tif", "labels.zarr", "--scores", "0"),
    "both of evaluate": ("evaluate", "labels.tif", "labels.tif"),
    "labels of convert": ("convert", "labels.tif", "layer", "--to", "precomputed"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_command_that_refuses_it_names_the_axes_and_takes_them(what, place, shell, one_worker):
    argv = list(REFUSED[what])
    if argv[0] == "evaluate":
        argv += ["--cluster", one_worker.scheduler.address]
    if what == "scores of evaluate" and place not in SILENT:
        pytest.skip("the file says that it has scores of several classes")
    code, out, err = shell(*argv)
    assert (code, out) == (2, ""), err
    assert err.count("\n") == 1
    assert "slices, pass --axes zyx" in err or "pass --axes zyx if they are slices" in err
    code, out, err = shell(*argv, "--axes", "zyx")
    assert code == 0, err
    assert "--axes zyx" not in err


NOTED = {
    "convert": ("convert", "stack.tif", "copy.tif"),
    "mask": ("mask", "stack.tif", "mask.zarr", "--channel", "0", "--overwrite"),
}


@pytest.mark.parametrize("what", NOTED)
def test_a_command_that_reads_channels_notes_them_where_the_file_does_not_say(what, place, shell):
    code, _, err = shell(*NOTED[what])
    assert code == 0, err
    notes = [line for line in err.splitlines() if "if they are slices, pass --axes zyx" in line]
    assert len(notes) == (1 if place in SILENT else 0), err
    words = [word for word in NOTED[what] if word not in ("--channel", "0")]
    code, _, err = shell(*words, "--overwrite", "--axes", "zyx")
    assert code == 0, err
    assert "slices" not in err
    if what == "convert":
        assert find_volume("copy.tif").axes == "zyx"


def test_a_training_reads_both_as_slices(place):
    pair = Location.parse("stack.tif"), Location.parse("labels.tif")
    found = find_labelled(*pair, ReadAs(axes="zyx"))
    assert (found.raw.axes, found.labels.axes) == ("zyx", "zyx")
    assert found.raw.shape_zyx == found.labels.shape_zyx


def test_a_mask_is_read_as_the_slices_of_its_volume(place):
    mask = find_mask(Location.parse("labels.tif"), find_volume("stack.zarr"))
    assert mask.source.axes == "zyx"


def test_a_truth_whose_file_says_other_axes_is_read_with_those_given(place, shell, one_worker):
    labels = tifffile.imread("labels.tif")
    tifffile.imwrite("turned.ome.tif", labels.transpose(2, 1, 0), photometric="minisblack",
                     metadata={"axes": "ZYX"})  # fmt: skip
    argv = ("evaluate", "labels.zarr", "turned.ome.tif", "--cluster", one_worker.scheduler.address)
    assert shell(*argv)[0] == 2
    code, out, err = shell(*argv, "--axes", "xyz")
    assert code == 0, err
    assert "pixel error 0.0000" in out
