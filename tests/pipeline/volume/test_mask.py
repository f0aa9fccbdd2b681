"""How a mask lies over a volume: by voxel sizes and origins, else by shapes."""

import numpy as np
import pytest
import zarr

from pipeline.base.errors import VolumeError
from pipeline.base.geometry import Box
from pipeline.base.location import Location
from pipeline.volume.mask import find_mask
from pipeline.volume.volume import find_volume

SHAPE = (5, 33, 40)


def store(path, array, *, size=None, origin=(0, 0, 0), unit="nanometer"):
    """Store an array as OME-Zarr if it has a voxel size, else as a plain Zarr array."""
    if size is None:
        zarr.create_array(path, data=array, dimension_names="zyx"[-array.ndim :])
        return Location.parse(path)
    group = zarr.create_group(path)
    group.create_array("0", data=array)
    transformations = [
        {"type": "scale", "scale": list(size)}, {"type": "translation", "translation": list(origin)}
    ]  # fmt: skip
    axes = [{"name": axis, "type": "space", "unit": unit} for axis in "zyx"]
    datasets = [{"path": "0", "coordinateTransformations": transformations}]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"name": "mask", "axes": axes, "datasets": datasets}],
    }
    return Location.parse(path)


def random_mask(shape, dtype=bool):
    return (np.random.default_rng(0).random(shape) < 0.3).astype(dtype)


def repeated(mask, factor, shape=SHAPE):
    """Return a mask in the voxels of the volume: each of its voxels stands for ``factor``."""
    for axis, times in enumerate(factor):
        mask = np.repeat(mask, times, axis)
    padding = [(0, max(0, n - m)) for n, m in zip(shape, mask.shape, strict=True)]
    return np.pad(mask, padding, mode="edge")[tuple(slice(0, n) for n in shape)].astype(bool)


@pytest.mark.parametrize("dtype", [bool, "uint8", "float32", "int64"])
@pytest.mark.parametrize(
    ("shape", "factor"),
    [
        (SHAPE, (1, 1, 1)),
        ((5, 17, 20), (1, 2, 2)),  # rounded up
        ((5, 16, 20), (1, 2, 2)),  # rounded down
        ((2, 8, 10), (2, 4, 4)),
        ((1, 33, 40), (5, 1, 1)),
    ],
)
def test_a_coarser_mask_stands_for_whole_voxels(shape, factor, dtype, tmp_path):
    volume = find_volume(store(tmp_path / "in.zarr", np.zeros(SHAPE, "uint8")))
    array = random_mask(shape, dtype)
    mask = find_mask(store(tmp_path / "mask.zarr", array), volume)
    expected = repeated(array, factor)
    np.testing.assert_array_equal(mask.inside(Box.of_shape(SHAPE)), expected)
    box = Box((1, 7, 3), (4, 30, 39))
    np.testing.assert_array_equal(mask.inside(box), expected[box.slices])


def test_nan_in_a_mask_is_outside(tmp_path):
    volume = find_volume(store(tmp_path / "in.zarr", np.zeros(SHAPE, "uint8")))
    array = np.full(SHAPE, np.nan, np.float32)
    array[2] = 0.5
    mask = find_mask(store(tmp_path / "mask.zarr", array), volume)
    np.testing.assert_array_equal(mask.inside(Box.of_shape(SHAPE)), array == 0.5)


def test_a_mask_without_z_is_the_same_for_every_z(tmp_path):
    volume = find_volume(store(tmp_path / "in.zarr", np.zeros(SHAPE, "uint8")))
    array = random_mask(SHAPE[1:])
    mask = find_mask(store(tmp_path / "mask.zarr", array), volume)
    inside = mask.inside(Box.of_shape(SHAPE))
    assert all(np.array_equal(plane, array) for plane in inside)


def test_a_finer_mask_is_read_at_the_centre_of_a_voxel(tmp_path):
    volume = find_volume(store(tmp_path / "in.zarr", np.zeros((5, 11, 13), "uint8")))
    array = random_mask((5, 33, 39))
    mask = find_mask(store(tmp_path / "mask.zarr", array), volume)
    np.testing.assert_array_equal(mask.inside(Box.of_shape((5, 11, 13))), array[:, 1::3, 1::3])


@pytest.mark.parametrize("origin", [(0, 0, 0), (0, 6, 6)])
def test_origins_of_coarser_levels_may_be_stated_or_not(origin, tmp_path):
    """A level of half the resolution starts half a voxel further, or is stated to start at 0."""
    volume = store(tmp_path / "in.zarr", np.zeros(SHAPE, "uint8"), size=(40, 4, 4))
    array = random_mask((5, 9, 10))
    mask = store(tmp_path / "mask.zarr", array, size=(40, 16, 16), origin=origin)
    inside = find_mask(mask, find_volume(volume)).inside(Box.of_shape(SHAPE))
    np.testing.assert_array_equal(inside, repeated(array, (1, 4, 4)))


def test_a_mask_of_a_volume_that_is_stored_backwards_lies_over_it(tmp_path):
    """The first voxel of a coarser level lies half a voxel further in the direction of the axis."""
    volume = store(tmp_path / "in.zarr", np.zeros(SHAPE, "uint8"), size=(40, -4, 4))
    array = random_mask((5, 9, 10))
    mask = store(tmp_path / "mask.zarr", array, size=(40, -16, 16), origin=(0, -6, 6))
    inside = find_mask(mask, find_volume(volume)).inside(Box.of_shape(SHAPE))
    np.testing.assert_array_equal(inside, repeated(array, (1, 4, 4)))
    ahead = store(tmp_path / "ahead.zarr", array, size=(40, 16, 16), origin=(0, 6, 6))
    with pytest.raises(VolumeError, match="does not fit the volume"):
        find_mask(ahead, find_volume(volume))


def test_a_mask_of_the_whole_fits_a_crop_by_its_origin_and_other_units(tmp_path):
    crop = store(
        tmp_path / "in.zarr", np.zeros(SHAPE, "uint8"), size=(40, 4, 4), origin=(80, 12, 40)
    )
    array = random_mask((10, 20, 20))
    mask = store(
        tmp_path / "mask.zarr", array, size=(0.04, 0.016, 0.016), origin=(0, 0.006, 0.006),
        unit="micrometer",
    )  # fmt: skip
    inside = find_mask(mask, find_volume(crop)).inside(Box.of_shape(SHAPE))
    whole = repeated(array, (1, 4, 4), (10, 80, 80))
    np.testing.assert_array_equal(inside, whole[2:7, 3:36, 10:50])


@pytest.mark.parametrize(
    ("shape", "size", "origin"),
    [
        ((5, 33, 39), None, None),
        ((5, 22, 26), None, None),
        ((4, 33, 40), None, None),
        ((5, 33, 40), (40, 8, 8), (0, 0, 0)),  # the shape, but voxels twice as large
        ((5, 22, 27), (40, 6, 6), (0, 0, 0)),
        ((5, 17, 20), (40, 8, 8), (0, 40, 0)),  # starts inside the volume
        ((5, 17, 20), (40, 8, 8), (0, -40, 0)),  # ends inside the volume
    ],
)
def test_a_mask_of_another_shape_or_scale_is_refused(shape, size, origin, tmp_path):
    volume = store(tmp_path / "in.zarr", np.zeros(SHAPE, "uint8"), size=(40, 4, 4))
    mask = store(tmp_path / "mask.zarr", random_mask(shape), size=size, origin=origin)
    with pytest.raises(VolumeError, match="does not fit the volume") as refused:
        find_mask(mask, find_volume(volume))
    assert "\n" not in str(refused.value)


def test_a_mask_of_several_channels_is_refused(tmp_path):
    volume = find_volume(store(tmp_path / "in.zarr", np.zeros(SHAPE, "uint8")))
    zarr.create_array(
        tmp_path / "mask.zarr", data=np.ones((2, *SHAPE), "uint8"), dimension_names="czyx"
    )
    with pytest.raises(VolumeError, match="has 2 channels: expected one"):
        find_mask(Location.parse(tmp_path / "mask.zarr"), volume)
