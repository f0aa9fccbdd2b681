"""Labelled boxes are mirrored at their own edge, as numpy mirrors, and read nothing beyond it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.errors import LabelError, VolumeError
from pipeline.base.geometry import Box
from pipeline.base.location import Location
from pipeline.volume.find_labels import ReadAs, find_labelled
from pipeline.volume.intensity import Intensity
from pipeline.volume.labelled import LabelledBox
from pipeline.volume.volume import find_volume

SHAPE = (9, 14, 11)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A volume of two channels with labels: (raw, labels, their sources)."""
    folder = tmp_path_factory.mktemp("stored")
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 60_000, (2, *SHAPE), "u2")
    labels = rng.integers(0, 2**40, SHAPE, "u8")
    zarr.create_array(
        folder / "raw.zarr", data=raw, chunks=(1, 4, 5, 6), dimension_names=("c", "z", "y", "x")
    )
    zarr.create_array(folder / "labels.zarr", data=labels, chunks=(3, 7, 11))
    return (
        raw,
        labels,
        *sources_of(folder / "raw.zarr", folder / "labels.zarr"),
    )


def sources_of(raw, labels, **options):
    """Return a volume and its labels, which have the same voxels."""
    placed = find_labelled(Location.parse(raw), Location.parse(labels), ReadAs(**options))
    assert (placed.start, placed.notes) == ((0, 0, 0), ())
    return placed.raw, placed.labels


def boxes():
    """Boxes inside SHAPE, and the start and stop of a read around them."""
    axes = [
        st.tuples(
            st.integers(0, n - 1), st.integers(1, n), st.integers(-30, 30), st.integers(1, 50)
        )
        for n in SHAPE
    ]
    return st.tuples(*axes).map(
        lambda rows: (
            [a for a, *_ in rows],
            [min(n, a + size) for (a, size, *_), n in zip(rows, SHAPE, strict=True)],
            [start for *_, start, _ in rows],
            [start + size for *_, start, size in rows],
        )
    )


def mirrored(array, start, stop):
    """Return a box of the last three axes, mirrored by numpy alone (its reflect repeats)."""
    for axis, (a, b) in enumerate(zip(start, stop, strict=True), start=array.ndim - 3):
        size = array.shape[axis]
        before, after = max(0, -a), max(0, b - size)
        pads = [(0, 0)] * array.ndim
        pads[axis] = (before, after)
        # numpy cannot reflect an axis of one voxel; it repeats the voxel.
        padded = np.pad(array, pads, mode="reflect" if size > 1 else "edge")
        array = np.take(padded, range(a + before, b + before), axis=axis)
    return array


@given(drawn=boxes())
@settings(max_examples=60, deadline=None)
def test_a_box_is_read_as_numpy_mirrors_it_at_its_own_edge(drawn, stored):
    raw, labels, raw_source, labels_source = stored
    first, last, start, stop = drawn
    box = LabelledBox(raw=raw_source, labels=labels_source, box=Box(tuple(first), tuple(last)))
    inside = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    assert box.shape_zyx == tuple(b - a for a, b in zip(first, last, strict=True))
    np.testing.assert_array_equal(
        box.read_labels(start, stop), mirrored(labels[inside], start, stop)
    )
    np.testing.assert_array_equal(
        box.read_raw(start, stop), mirrored(raw[:, *inside], start, stop).astype(np.float32)
    )


@pytest.mark.parametrize("held_out", [(3, 5), (0, 2), (7, 9)])
def test_a_training_box_reads_no_label_and_no_grey_value_of_the_validation_slices(
    held_out, tmp_path
):
    first, last = held_out
    raw = np.full(SHAPE, 1, "u1")
    raw[first:last] = 99
    zarr.create_array(tmp_path / "raw.zarr", data=raw, chunks=(9, 14, 11))
    zarr.create_array(tmp_path / "labels.zarr", data=raw.astype("u4"), chunks=(9, 14, 11))
    sources = sources_of(tmp_path / "raw.zarr", tmp_path / "labels.zarr")
    _, *plane = SHAPE
    slices = {(0, first): 1, (first, last): 99, (last, SHAPE[0]): 1}
    for (a, b), value in slices.items():
        if a == b:
            continue
        box = LabelledBox(raw=sources[0], labels=sources[1], box=Box((a, 0, 0), (b, *plane)))
        around = (-20, -20, -20), (40, 40, 40)
        assert np.unique(box.read_labels(*around)).tolist() == [value]
        assert np.unique(box.read_raw(*around)).tolist() == [value]


def test_grey_values_are_normalised_per_channel_and_labels_are_not(stored):
    raw, labels, *sources = stored
    box = LabelledBox(
        raw=sources[0], labels=sources[1], box=Box.of_shape(SHAPE),
        intensity=Intensity(offset=(100.0, 200.0), scale=(0.5, 2.0)),
    )  # fmt: skip
    read = box.read_raw((0, 0, 0), SHAPE)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read[0], (raw[0] - 100.0) * 0.5)
    np.testing.assert_allclose(read[1], (raw[1] - 200.0) * 2.0)
    assert box.read_labels((0, 0, 0), SHAPE).dtype == np.uint64
    np.testing.assert_array_equal(box.read_labels((0, 0, 0), SHAPE), labels)


def test_nan_and_infinite_values_are_counted_only_inside_the_boxes(tmp_path):
    raw = np.zeros((2, 6, 4, 4), "f2")
    raw[1, 3, 2, 1:3] = np.nan, np.inf
    zarr.create_array(tmp_path / "raw", data=raw, chunks=(1, 2, 4, 4),
                      dimension_names=("c", "z", "y", "x"))  # fmt: skip
    zarr.create_array(tmp_path / "labels", data=np.zeros((6, 4, 4), "u1"))
    sources = sources_of(tmp_path / "raw", tmp_path / "labels")
    box = LabelledBox(raw=sources[0], labels=sources[1], box=Box((2, 0, 0), (6, 4, 4)))
    assert box.count_bad_values([((0, 0, 0), (4, 4, 4))]) == (2, 2 * 64)
    assert box.count_bad_values([((1, 2, 0), (2, 3, 2)), ((2, 0, 0), (4, 4, 4))]) == (1, 2 * 34)
    assert not np.isnan(box.read_raw((-3, 0, 0), (7, 4, 4))).any()


def test_a_pickled_box_is_small_and_its_name_states_its_slices(stored):
    *_, raw, labels = stored
    box = LabelledBox(raw=raw, labels=labels, box=Box((2, 0, 0), (5, *SHAPE[1:])))
    assert len(pickle.dumps(box)) < 2000
    assert pickle.loads(pickle.dumps(box)) == box
    assert box.name.endswith("raw.zarr slices 2:5")
    whole = LabelledBox(raw=raw, labels=labels, box=Box.of_shape(SHAPE))
    assert whole.name.endswith("raw.zarr")


def write_pyramid(path, dtype, levels=("s0", "s1"), size=8):
    """Write a cube and its coarser levels, each half as large as the one before."""
    group = zarr.create_group(path)
    for number, level in enumerate(levels):
        group.create_array(
            level, data=np.full((size >> number,) * 3, size >> number, dtype), chunks=(4, 4, 4),
            dimension_names=("z", "y", "x"),
        )  # fmt: skip
    datasets = [
        {"path": p, "coordinateTransformations": [{"type": "scale", "scale": [2.0**n] * 3}]}
        for n, p in enumerate(levels)
    ]
    axes = [{"name": axis, "type": "space"} for axis in "zyx"]
    group.attrs["ome"] = {
        "version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets, "name": path.name}]
    }  # fmt: skip
    return Location.parse(path)


@pytest.mark.parametrize("of_labels", [("1", "2", "3"), ("0", "1", "2"), ("s0", "s1", "s2")])
@pytest.mark.parametrize("level", ["2", 1])
def test_levels_named_by_numbers_are_found_by_name_for_volume_and_labels(
    tmp_path, of_labels, level
):
    raw = write_pyramid(tmp_path / "raw", "u1", levels=("1", "2", "3"))
    labels = write_pyramid(tmp_path / "labels", "u2", levels=of_labels)
    found, of_it = sources_of(raw, labels, level=level)
    assert found.path == "2"
    assert found.shape_zyx == of_it.shape_zyx == (4, 4, 4)


def test_labels_that_are_a_pyramid_are_read_at_the_volumes_level(tmp_path):
    raw, labels = sources_of(
        write_pyramid(tmp_path / "raw", "u1"), write_pyramid(tmp_path / "labels", "u2"), level="s1"
    )
    assert raw.shape_zyx == labels.shape_zyx == (4, 4, 4)
    zarr.create_array(tmp_path / "plain", data=np.zeros((4, 4, 4), "u1"))
    raw, labels = sources_of(tmp_path / "raw", tmp_path / "plain", level=1)
    assert raw.shape_zyx == labels.shape_zyx == (4, 4, 4)


def test_the_error_of_an_unreadable_chunk_is_one_line_that_names_the_array(tmp_path):
    for name in ("raw", "labels"):
        zarr.create_array(tmp_path / name, data=np.ones((4, 4, 4), "u1"), chunks=(4, 4, 4))
    (tmp_path / "labels/c/0/0/0").write_bytes(b"no zstd frame")
    raw, labels = sources_of(tmp_path / "raw", tmp_path / "labels")
    box = LabelledBox(raw=raw, labels=labels, box=Box.of_shape((4, 4, 4)))
    with pytest.raises(VolumeError, match=r"labels, voxels 0:4,0:4,0:4: .*Zstd") as caught:
        box.read_labels((0, 0, 0), (4, 4, 4))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["bool", "float32", "float64"])
def test_masks_of_bools_and_whole_floats_are_labels(stored, tmp_path, dtype):
    raw, labels, *_ = stored
    mask = labels % 2 == 0
    for name, values in (("raw", raw), ("mask", mask.astype(dtype)), ("ints", mask.astype("u1"))):
        zarr.create_array(
            tmp_path / name, data=values, chunks=(1, *SHAPE)[-values.ndim :],
            dimension_names=list("czyx"[-values.ndim :]),
        )  # fmt: skip
    read = []
    for name in ("mask", "ints"):
        pair = sources_of(tmp_path / "raw", tmp_path / name)
        box = LabelledBox(raw=pair[0], labels=pair[1], box=Box.of_shape(SHAPE))
        read.append(box.read_labels((-2, 0, 0), (5, 6, 7)))
    np.testing.assert_array_equal(*read)
    assert read[0].dtype.kind in "iu"


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 2.0**60])
def test_floats_that_are_not_whole_numbers_are_no_labels(tmp_path, value):
    zarr.create_array(tmp_path / "raw", data=np.ones(SHAPE, "u1"), dimension_names=list("zyx"))
    zarr.create_array(tmp_path / "labels", data=np.full(SHAPE, value), dimension_names=list("zyx"))
    with pytest.raises(LabelError, match="expected whole numbers") as caught:
        sources_of(tmp_path / "raw", tmp_path / "labels")
    assert "\n" not in str(caught.value)


def test_a_mask_is_not_taken_for_grey_values(tmp_path):
    zarr.create_array(tmp_path / "raw", data=np.ones(SHAPE, bool), dimension_names=list("zyx"))
    with pytest.raises(VolumeError, match="holds bool, not grey values"):
        find_volume(tmp_path / "raw")
