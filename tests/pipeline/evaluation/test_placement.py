"""Where a prediction lies in the truth: by what both state, not by their shapes alone."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from pipeline import Box, OvertileError, evaluate_volume, segment_volume
from pipeline.base.text import shape_text
from unet import UNetPredictor

SHAPE = (6, 32, 36)
BOX = Box((2, 8, 9), (6, 24, 36))
RANDOM = np.random.default_rng(3)
TRUTH = RANDOM.integers(0, 2, SHAPE, np.uint8)
PREDICTED = np.where(RANDOM.random(SHAPE) < 0.1, 1 - TRUTH, TRUTH)
SIZE = (0.05, 0.01, 0.01)


def stored(path, data, *, start=(0, 0, 0), size=SIZE):
    """Write an array as OME-Zarr that begins at a voxel of its volume; return its path."""
    root = zarr.create_group(path)
    root.create_array("0", data=data, chunks=(2, 16, 16))
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    place = [s * v for s, v in zip(start, size, strict=True)]
    moves = [{"type": "scale", "scale": list(size)}, {"type": "translation", "translation": place}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": moves}]}
    root.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    return str(path)


@pytest.fixture
def whole(tmp_path):
    return stored(tmp_path / "truth.zarr", TRUTH), stored(tmp_path / "whole.zarr", PREDICTED)


@pytest.fixture
def expected(whole):
    """Return the figures of the box, cut from whole volumes."""
    return evaluate_volume(whole[1], whole[0], box=BOX).classes


def test_a_part_is_compared_with_its_place_in_the_truth(tmp_path, whole, expected):
    truth, prediction = whole
    part = stored(tmp_path / "part.zarr", PREDICTED[BOX.slices], start=BOX.start)
    found = evaluate_volume(part, truth)
    assert (found.classes, found.box) == (expected, BOX)
    assert found.notes == ("by its metadata the prediction begins at voxel 2,8,9 of the truth",)
    of_truth = stored(tmp_path / "of-truth.zarr", TRUTH[BOX.slices], start=BOX.start)
    assert evaluate_volume(prediction, of_truth).classes == expected
    one = Box((3, 10, 9), (5, 20, 30))
    inside = evaluate_volume(part, truth, box=one).classes
    assert inside == evaluate_volume(prediction, truth, box=one).classes
    with pytest.raises(OvertileError, match=r"0:4,8:24,9:36 is not inside 2:6,8:24,9:36"):
        evaluate_volume(part, truth, slices=(0, 4))


def test_arrays_of_one_shape_at_different_places_are_compared_where_they_overlap(tmp_path):
    first = stored(tmp_path / "a.zarr", PREDICTED[1:4], start=(1, 0, 0))
    second = stored(tmp_path / "b.zarr", TRUTH[2:5], start=(2, 0, 0))
    third = stored(tmp_path / "c.zarr", TRUTH[:3], start=(9, 0, 0))
    found = evaluate_volume(first, second).classes
    assert found.pixel_error == np.mean(PREDICTED[2:4] != TRUTH[2:4])
    with pytest.raises(OvertileError, match=r"begins at voxel -8,0,0 .* no voxel in common"):
        evaluate_volume(first, third)
    unplaced = stored(tmp_path / "d.zarr", TRUTH[1:4])
    (note,) = evaluate_volume(first, unplaced).notes
    assert "check that they show the same place" in note


def test_a_part_that_states_no_place_or_other_voxels_is_refused(tmp_path, whole):
    size = shape_text(PREDICTED[BOX.slices].shape)
    unplaced = stored(tmp_path / "unplaced.zarr", PREDICTED[BOX.slices])
    for one, other in ((unplaced, whole[0]), (whole[1], unplaced)):
        with pytest.raises(OvertileError, match=f"{size}.*metadata states its place"):
            evaluate_volume(one, other)
    coarse = stored(tmp_path / "coarse.zarr", PREDICTED[:, ::2, ::2], size=(0.05, 0.02, 0.02))
    with pytest.raises(OvertileError, match=r"0\.05×0\.02×0\.02 µm, the truth of 0\.05×0\.01"):
        evaluate_volume(coarse, whole[0])


def test_the_result_of_a_box_is_compared_in_the_whole_truth(tmp_path, weights):
    """Also at the volume's first voxel, and where nothing states units."""
    raw = RANDOM.integers(0, 255, SHAPE, np.uint8)
    zarr.create_array(tmp_path / "raw.zarr", data=raw)
    zarr.create_array(tmp_path / "truth.zarr", data=TRUTH)
    predictor = UNetPredictor(weights("3d"), precision="fp32")
    for box in ("0:4,:,:", "2:6,8:32,:"):
        out = str(tmp_path / f"{box[0]}.zarr")
        segment_volume(str(tmp_path / "raw.zarr"), out, predictor, box=box)
        classes = zarr.open_array(f"{out}/labels/classes/0")[:]
        found = evaluate_volume(out, str(tmp_path / "truth.zarr"))
        assert found.box.shape == classes.shape
        assert found.classes.accuracy == np.mean(classes == TRUTH[found.box.slices])
    out = str(tmp_path / "framed.zarr")
    segment_volume(str(tmp_path / "raw.zarr"), out, predictor, box="0:4,:,:", frame="volume")
    notes = evaluate_volume(out, str(tmp_path / "truth.zarr")).notes
    assert any("voxels outside of it count as predicted background" in note for note in notes)
