"""OME-Zarr 0.6: read where scale and translation are enough, else refused in one line."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from pipeline.base.errors import VolumeError
from pipeline.base.geometry import Box
from pipeline.volume.volume import find_volume, open_volume

SHAPE = {"c": 3, "z": 4, "y": 6, "x": 8}
SCALE = {"type": "scale", "scale": [1, 40, 8, 8]}
MOVE = {"type": "translation", "translation": [0, 400, 80, 160]}
READ = ((40.0, 8.0, 8.0), (400.0, 80.0, 160.0))
ALONE = ((40.0, 8.0, 8.0), (0.0, 0.0, 0.0))
UNCHANGED = ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
MATRIX = [[1, 0, 0, 0], [0, 40, 0, 0], [0, 0, 8, 0], [0, 0, 0, 8]]
TURNED = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0.6, -0.8], [0, 0, 0.8, 0.6]]
ONES = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
OFFSETS = (0, 400, 80, 160)


def system(name="intrinsic", axes="czyx"):
    return {
        "name": name,
        "axes": [
            {"name": a, "type": "channel"} if a == "c"
            else {"name": a, "type": "space", "unit": "nanometer"} for a in axes
        ],
    }  # fmt: skip


def write(path, transformations, *, systems=None, axes="czyx", version="0.6", **image):
    """Write an image as ngff-zarr writes 0.6; its one level has these transformations."""
    stated = {
        "name": "image",
        "coordinateSystems": systems or [system(axes=axes)],
        "datasets": [{"path": "0", "coordinateTransformations": transformations}],
        **image,
    }
    ome = {"version": version, "multiscales": [stated]}
    zarr.create_group(path, zarr_format=3, attributes={"ome": ome})
    values = np.arange(np.prod([SHAPE[a] for a in axes]), dtype="u2")
    values = values.reshape([SHAPE[a] for a in axes])
    zarr.create_array(path, name="0", data=values, dimension_names=list(axes))
    return values


def between(transformation, first=None, output=None):
    ends = {"input": first or {"path": "0"}, "output": output or {"name": "intrinsic"}}
    return {**transformation, **ends}


def sequence(*parts):
    return {"type": "sequence", "transformations": list(parts)}


ENOUGH = {
    "scale": (SCALE, ALONE),
    "identity": ({"type": "identity"}, UNCHANGED),
    "sequence": (sequence(SCALE, MOVE), READ),
    "nested": (sequence(sequence(SCALE), sequence({"type": "identity"}, MOVE)), READ),
    "translation first": (
        sequence({"type": "translation", "translation": [0, 10, 10, 20]}, SCALE), READ
    ),
    "affine without shear": (
        {"type": "affine", "affine": [[*r, t] for r, t in zip(MATRIX, OFFSETS, strict=True)]}, READ
    ),
    "homogeneous affine": (
        {"type": "affine",
         "affine": [*([*r, t] for r, t in zip(MATRIX, OFFSETS, strict=True)), [0, 0, 0, 0, 1]]},
        READ,
    ),
    "rotation by nothing": ({"type": "rotation", "rotation": ONES}, UNCHANGED),
    "axes mapped to themselves": ({"type": "mapAxis", "mapAxis": [0, 1, 2, 3]}, UNCHANGED),
    "bijection": ({"type": "bijection", "forward": SCALE, "inverse": SCALE}, ALONE),
    "by dimension": (
        {"type": "byDimension", "transformations": [
            {"type": "scale", "scale": [8, 8], "input": ["y", "x"], "output": ["y", "x"]},
            {"transformation": {"type": "scale", "scale": [40]}, "input_axes": ["z"],
             "output_axes": ["z"]}]},
        ALONE,
    ),
}  # fmt: skip
TOO_MUCH = {
    "rotation": ({"type": "rotation", "rotation": TURNED}, "rotation that turns"),
    "shear": (
        {"type": "affine", "affine": [[*row, 0] for row in TURNED]},
        "affine that turns or shears",
    ),
    "inside a sequence": (
        sequence(SCALE, {"type": "rotation", "rotation": TURNED}),
        "rotation that turns",
    ),
    "exchanged axes": ({"type": "mapAxis", "mapAxis": [0, 1, 3, 2]}, "exchanges axes"),
    "displacements": ({"type": "displacements", "path": "d"}, "'displacements'"),
    "coordinates": ({"type": "coordinates", "path": "d"}, "'coordinates'"),
    "unknown": ({"type": "spline", "order": 3}, "'spline'"),
    "numbers in an array": ({"type": "scale", "path": "scale"}, "scale whose numbers are in an"),
}


@pytest.mark.parametrize("name", ENOUGH)
def test_scale_and_translation_are_read_however_they_are_written(tmp_path, name):
    transformation, placed = ENOUGH[name]
    values = write(tmp_path / "in.zarr", [between(transformation)])
    for uri in (tmp_path / "in.zarr", tmp_path / "in.zarr" / "0"):
        source = find_volume(uri)
        assert (source.voxel_size, source.translation) == placed
        assert source.axes == "czyx"
        assert source.unit == ("nanometer",) * 3
        assert source.notes == ()
        whole = Box.of_shape(source.shape_zyx)
        np.testing.assert_array_equal(open_volume(source).read(whole), values)


@pytest.mark.parametrize("axes", ["zyx", "cyx", "yx"])
def test_axes_come_from_the_coordinate_system_not_from_the_rank(tmp_path, axes):
    scale = [{"c": 1, "z": 40, "y": 8, "x": 8}[axis] for axis in axes]
    write(tmp_path / "in.zarr", [between({"type": "scale", "scale": scale})], axes=axes)
    source = find_volume(tmp_path / "in.zarr")
    assert source.axes == axes
    assert source.channel_count == (3 if "c" in axes else 1)
    assert source.voxel_size[1:] == (8.0, 8.0)


@pytest.mark.parametrize("name", TOO_MUCH)
def test_what_is_more_than_a_voxel_size_is_refused_and_the_array_itself_is_read(tmp_path, name):
    transformation, words = TOO_MUCH[name]
    values = write(tmp_path / "in.zarr", [between(transformation)])
    with pytest.raises(VolumeError, match=words) as caught:
        find_volume(tmp_path / "in.zarr")
    assert "\n" not in str(caught.value)
    assert "pass one array inside it instead, with --axes" in str(caught.value)
    source = find_volume(tmp_path / "in.zarr" / "0", axes="czyx")
    assert source.shape == values.shape
    assert "the metadata of the group above is not used" in " ".join(source.notes)


def test_further_coordinate_systems_are_noted_and_do_not_change_the_voxel_size(tmp_path):
    atlas = between(
        {"type": "rotation", "rotation": TURNED}, {"name": "physical"}, {"name": "atlas"}
    )
    write(
        tmp_path / "in.zarr", [between(sequence(SCALE, MOVE), output={"name": "physical"})],
        systems=[system("atlas", "zyxc"), system("physical")], coordinateTransformations=[atlas],
    )  # fmt: skip
    source = find_volume(tmp_path / "in.zarr")
    assert source.axes == "czyx"
    assert (source.voxel_size, source.translation) == READ
    assert source.notes == ("the image has 2 coordinate systems: using 'physical'",)


def test_ends_may_be_texts_or_absent(tmp_path):
    write(tmp_path / "a.zarr", [between(SCALE, "0", "intrinsic")])
    write(tmp_path / "b.zarr", [SCALE, MOVE])
    assert find_volume(tmp_path / "a.zarr").voxel_size == READ[0]
    assert find_volume(tmp_path / "b.zarr").translation == READ[1]


@pytest.mark.parametrize("version", ["0.7", "0.10", "1.0.0"])
def test_a_version_that_is_not_known_is_refused(tmp_path, version):
    write(tmp_path / "in.zarr", [between(SCALE)], version=version)
    with pytest.raises(VolumeError, match=rf"OME-Zarr {version} is not read: expected 0.1 to 0.6"):
        find_volume(tmp_path / "in.zarr")
    assert find_volume(tmp_path / "in.zarr" / "0").axes == "czyx"


@pytest.mark.parametrize("version", ["0.6", "0.6-dev2", "0.6.dev1", None])
def test_any_0_6_is_recognised_by_its_coordinate_systems(tmp_path, version):
    write(tmp_path / "in.zarr", [between(SCALE)], version=version)
    assert find_volume(tmp_path / "in.zarr").voxel_size == READ[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"systems": [{"name": "intrinsic"}]}, {"systems": [system("other")]},
        {"coordinateSystems": []}, {"datasets": []},
        {"datasets": [{"path": "0", "coordinateTransformations": [between({"type": "scale",
                                                                           "scale": [1, 2]})]}]},
    ],
)  # fmt: skip
def test_invalid_metadata_is_one_line(tmp_path, changes):
    write(tmp_path / "in.zarr", [between(SCALE)], **changes)
    with pytest.raises(VolumeError, match="metadata is malformed") as caught:
        find_volume(tmp_path / "in.zarr")
    assert "\n" not in str(caught.value)
