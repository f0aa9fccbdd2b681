"""Painted labels are read as classes, unknown where nothing is painted; others are not."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from pipeline import open_labelled
from pipeline.base.errors import LabelError, TrainingError
from pipeline.base.geometry import Box
from pipeline.volume.formats.ome_zarr.painted import painted_attributes
from pipeline.volume.label_mapping import LabelMapping
from pipeline.volume.label_values import UNKNOWN
from pipeline.volume.volume import find_volume, open_volume

SHAPE, NAMES = (8, 12, 14), ("cell", "membrane", "gap")


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    zarr.create_array(tmp_path / "raw.zarr", data=rng.integers(0, 255, SHAPE, "u1"))
    zarr.create_array(tmp_path / "old.zarr", data=rng.integers(0, 3, SHAPE, "u1"))
    attributes = painted_attributes(NAMES, of="out.zarr")
    zarr.create_array(
        tmp_path / "painted.zarr", shape=SHAPE, chunks=(2, 4, 4), dtype="u1", fill_value=0,
        attributes=attributes,
    )  # fmt: skip
    return tmp_path


def pairs(folder, *names):
    return [(str(folder / "raw.zarr"), str(folder / f"{name}.zarr")) for name in names]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_value_0_is_unknown_and_value_k_plus_1_is_class_k(values):
    classes = LabelMapping(NAMES).classes(np.array(values, np.uint8), where="painted")
    assert classes.tolist() == [value - 1 if value else UNKNOWN for value in values]


@pytest.mark.parametrize("value", [4, 255, -1])
def test_a_value_without_a_class_is_refused(value):
    with pytest.raises(LabelError, match=rf"x holds the value {value}: expected 0 \(unknown\), 1"):
        LabelMapping(NAMES).classes(np.array([0, value], np.int16), where="x")


def test_painted_labels_are_known_by_their_attribute_and_grey_values_are_as_stored(folder):
    array = zarr.open_array(folder / "painted.zarr")
    array[3, 4:6, 5] = [1, 3]
    labels = find_volume(str(folder / "painted.zarr"), holds="labels")
    assert labels.label_mapping == LabelMapping(NAMES)
    assert labels.read_dtype == "int64"
    read = open_volume(labels).read(Box.of_shape(SHAPE))[0]
    assert read.dtype == np.int64
    assert read[3, 3:7, 5].tolist() == [UNKNOWN, 0, 2, UNKNOWN]
    assert np.count_nonzero(read != UNKNOWN) == 2
    plain = find_volume(str(folder / "painted.zarr"), holds="anything")
    assert np.array_equal(open_volume(plain).read(Box.of_shape(SHAPE))[0], array[...])
    assert find_volume(str(folder / "old.zarr"), holds="labels").label_mapping is None
    assert not any("is the copy" in note for note in labels.notes), "most is not painted"


def test_boxes_without_a_painted_voxel_and_held_out_ones_are_left_out(folder):
    zarr.open_array(folder / "painted.zarr")[1, 2, 3] = 2
    volumes = open_labelled(pairs(folder, "old", "painted"), validation_slices=(3, 5))
    names = [(box.painted_classes, box.box.start[0], box.box.stop[0]) for box in volumes.training]
    assert names == [((), 0, 3), ((), 5, 8), (NAMES, 0, 3)]
    assert [box.painted_classes for box in volumes.validation] == [()]


def test_corrections_in_which_nothing_is_painted_are_refused(folder):
    with pytest.raises(LabelError, match=r"nothing is painted in .*painted\.zarr, outside of val"):
        open_labelled(pairs(folder, "old", "painted"))


def test_held_out_slices_of_corrections_alone_are_refused(folder):
    zarr.open_array(folder / "painted.zarr")[[1, 4], 2, 3] = 2
    with pytest.raises(TrainingError, match="validation slices hold corrections alone, from which"):
        open_labelled(pairs(folder, "painted"), validation_slices=(3, 5))
    found = open_labelled(
        pairs(folder, "painted"), validation=pairs(folder, "old"), validation_slices=(3, 5)
    )
    assert [box.painted_classes for box in found.validation] == [()]
