"""A note warns where a volume has another voxel size than the training, and names the level."""

from __future__ import annotations

import re

import numpy as np
import pytest
import zarr

from pipeline.models.tta import with_tta
from pipeline.segmentation.trained_scale import voxel_size_note
from pipeline.volume.volume import find_volume
from unet import UNetPredictor


def pyramid(path, *, finest, unit, levels=3):
    """Make an OME-Zarr image (z, y, x) whose levels halve y and x."""
    group = zarr.create_group(path)
    datasets = []
    for level in range(levels):
        shape = (4, 64 >> level, 64 >> level)
        group.create_array(f"s{level}", data=np.zeros(shape, "u1"))
        scale = [finest[0], finest[1] * 2**level, finest[2] * 2**level]
        transformation = {"type": "scale", "scale": scale}
        datasets.append({"path": f"s{level}", "coordinateTransformations": [transformation]})
    axes = [{"name": name, "type": "space", **({"unit": unit} if unit else {})} for name in "zyx"]
    multiscale = {"axes": axes, "datasets": datasets}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    return str(path)


@pytest.mark.parametrize("tta", ["none", "rotations"])
@pytest.mark.parametrize(
    ("unit", "finest", "advice"),
    [
        ("nanometer", (50, 4, 4), None),
        ("micrometer", (0.05, 0.004, 0.004), None),
        ("nanometer", (50, 5.9, 2.8), None),
        ("nanometer", (50, 2, 2), r"0\.002×0\.002 µm.*0\.004×0\.004 µm.*level 1 of .*--level 1\)"),
        ("nanometer", (50, 1, 1), r"level 2 of .*in\.zarr fits best \(--level 2\)"),
        ("nanometer", (50, 4, 6.1), r"no level of the image fits: resample it, or use other"),
        ("nanometer", (50, 0.5, 0.5), r"fits: shrink it 8 times"),
        ("nanometer", (50, 8, 8), r"fits: enlarge it 2 times"),
        ("micrometer", (50, 4, 4), r"no level of the image fits: enlarge it 1000 times"),
        (None, (50, 2, 2), r"^the volume states no voxel size in µm: .* 0\.004×0\.004 µm$"),
        ("parsec", (50, 2, 2), r"states no voxel size in µm"),
    ],
)
def test_a_size_that_differs_by_more_than_a_half_is_noted_with_the_level_that_fits(
    unit, finest, advice, tta, weights, tmp_path
):
    source = find_volume(pyramid(tmp_path / "in.zarr", finest=finest, unit=unit))
    predictor = UNetPredictor(weights("2d", voxel_size_um=[0.004, 0.004]))
    note = voxel_size_note(with_tta(predictor, tta), source)
    if advice is None:
        assert note is None
    else:
        assert re.search(advice, note)
        assert "\n" not in note


def test_the_sizes_of_a_3d_network_are_compared_along_z_too(weights, tmp_path):
    predictor = UNetPredictor(weights("3d", voxel_size_um=[0.004, 0.004, 0.004]))
    source = find_volume(pyramid(tmp_path / "in.zarr", finest=(50, 4, 4), unit="nanometer"))
    assert "0.05×0.004×0.004 µm" in voxel_size_note(predictor, source)


def test_the_level_is_found_where_one_array_of_the_image_was_named(weights, tmp_path):
    predictor = UNetPredictor(weights("2d", voxel_size_um=[0.004, 0.004]))
    path = pyramid(tmp_path / "in.zarr", finest=(50, 4, 4), unit="nanometer")
    assert voxel_size_note(predictor, find_volume(f"{path}/s0")) is None
    assert f"level 0 of {path} " in voxel_size_note(predictor, find_volume(f"{path}/s1"))


def test_weights_that_state_no_size_are_never_compared(weights, tmp_path):
    source = find_volume(pyramid(tmp_path / "in.zarr", finest=(9, 9, 9), unit="meter"))
    assert voxel_size_note(UNetPredictor(weights("2d")), source) is None
