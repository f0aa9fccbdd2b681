"""Voxel sizes as they occur: backward axes are handed on, unusable ones cost only themselves."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr

from pipeline.planning.make_plan import make_plan
from pipeline.segmentation.images import image_specs
from pipeline.segmentation.request import SegmentRequest
from pipeline.volume.volume import find_volume
from unet import UNetPredictor

UM = ("micrometer",) * 3


def write(path, scale, translation, units=UM):
    """Write an OME-Zarr 0.4 image of 8×300×300 voxels."""
    axes = [{"name": a, "type": "space", "unit": u} for a, u in zip("zyx", units, strict=True)]
    transformations = [
        {"type": "scale", "scale": scale}, {"type": "translation", "translation": translation}
    ]  # fmt: skip
    dataset = {"path": "0", "coordinateTransformations": transformations}
    image = {"version": "0.4", "axes": axes, "datasets": [dataset]}
    zarr.create_group(path, zarr_format=2, attributes={"multiscales": [image]})
    zarr.create_array(path, name="0", data=np.ones((8, 300, 300), "u1"), zarr_format=2)
    return find_volume(path)


@pytest.mark.parametrize("sign", [(1, -1, 1), (-1, 1, 1), (1, 1, -1), (-1, -1, -1)])
def test_a_backward_axis_keeps_size_unit_origin_and_sign(tmp_path, sign):
    scale = [size * s for size, s in zip((50.0, 7.87, 7.87), sign, strict=True)]
    source = write(tmp_path / "in.zarr", scale, [0.0, 316940.65, -196.75])
    assert source.voxel_size == (50.0, 7.87, 7.87)
    assert source.direction == sign
    assert source.step == tuple(scale)
    assert source.unit == UM
    assert source.translation == (0.0, 316940.65, -196.75)
    assert sum("is stored backwards" in note for note in source.notes) == sign.count(-1)


def test_the_output_lies_where_the_image_does_at_every_level(tmp_path, weights):
    source = write(tmp_path / "in.zarr", [7.87, -7.87, 7.87], [0.0, 316940.65, -196.75])
    request = SegmentRequest(
        input=tmp_path / "in.zarr", output=tmp_path / "out.zarr", outputs=("classes",)
    )
    plan = make_plan(source.shape_zyx, UNetPredictor(weights("3d")))
    [spec] = image_specs(request, source, plan, ("background", "cell"))
    for number, sizes in enumerate(spec.voxel_sizes):
        factor = 2**number
        assert sizes == pytest.approx((7.87, -7.87 * factor, 7.87 * factor))
        corner = (factor - 1) / 2 * 7.87  # the middle of the first voxels that a voxel covers
        expected = (0.0, 316940.65 - corner, -196.75 + corner)
        assert spec.translations[number] == pytest.approx(expected)
    assert len(spec.voxel_sizes) == 2


def test_an_unusable_size_costs_only_its_own_axis(tmp_path):
    source = write(tmp_path / "in.zarr", [0.0, 0.5, 0.25], [1.0, 2.0, 3.0])
    assert source.voxel_size == (1.0, 0.5, 0.25)
    assert source.unit == (None, "micrometer", "micrometer")
    assert source.translation == (1.0, 2.0, 3.0)
    assert source.notes == ("the stated voxel size of z (0) is unusable: assumed 1",)


def test_a_size_or_origin_that_is_no_number_is_noted(tmp_path):
    source = write(tmp_path / "in.zarr", [1.0, float("inf"), 2.0], [0.0, 0.0, float("nan")])
    assert source.voxel_size == (1.0, 1.0, 2.0)
    assert source.translation == (0.0, 0.0, 0.0)
    assert len(source.notes) == 2
    json.dumps(source.translation, allow_nan=False)


@pytest.mark.parametrize("key", ["voxel_size_nm", "voxel_size_um"])
def test_a_backward_axis_of_a_plain_array_keeps_size_and_unit(tmp_path, key):
    zarr.create_array(
        tmp_path / "in.zarr", data=np.ones((4, 6, 8), "u1"), dimension_names=list("zyx"),
        attributes={key: [40, -8, 8]},
    )  # fmt: skip
    source = find_volume(tmp_path / "in.zarr")
    assert (source.voxel_size, source.direction) == ((40.0, 8.0, 8.0), (1.0, -1.0, 1.0))
    assert source.unit == ({"nm": "nanometer", "um": "micrometer"}[key[-2:]],) * 3
    assert "y is stored backwards" in source.notes[0]
