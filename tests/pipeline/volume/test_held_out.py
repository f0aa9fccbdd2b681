"""What is held out is read by no training box, not even as context; overlaps are reported."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import open_labelled
from pipeline.base.errors import TrainingError
from pipeline.base.geometry import Box
from pipeline.base.location import Location
from pipeline.volume import labelled_volumes
from pipeline.volume.find_labels import ReadAs, find_labelled
from pipeline.volume.held_out import grown, kept_apart, overlap_notes, split, whole
from pipeline.volume.label_placement import PlacedLabels
from pipeline.volume.label_values import UNKNOWN
from pipeline.volume.labelled import LabelledBox

SHAPE = (8, 12, 10)
SIZE = (1.0, 1.0, 1.0)
RAW = np.random.default_rng(0).integers(0, 20, SHAPE, "u1")
RAW += 20 * np.arange(SHAPE[0], dtype="u1")[:, None, None]  # a value states its slice


@pytest.fixture(scope="module")
def place(tmp_path_factory, placed_image):
    """Write a volume that lies at (5, 5, 5) µm and labels of crops of it, named by their boxes."""
    folder = tmp_path_factory.mktemp("place")
    placed_image(folder / "raw", (RAW, SIZE, (5, 5, 5)))
    for name, (start, shape) in {
        "top": ((0, 2, 1), (3, 6, 6)), "middle": ((2, 3, 2), (4, 5, 5)),
        "bottom": ((6, 0, 0), (2, 12, 10)), "whole": ((0, 0, 0), SHAPE),
    }.items():  # fmt: skip
        labels = np.random.default_rng(1).integers(0, 2, shape, "u1")
        placed_image(folder / name, (labels, SIZE, tuple(5.0 + n for n in start)))
    return folder


def placed(place, name) -> PlacedLabels:
    return find_labelled(Location.parse(place / "raw"), Location.parse(place / name))


@pytest.fixture(scope="module")
def everywhere(place):
    """Return the labels of the whole volume."""
    return placed(place, "whole")


def box_of(placed, start, stop):
    return LabelledBox(raw=placed.raw, labels=placed.labels, box=Box(start, stop))


ENDS = [st.tuples(st.integers(0, n - 1), st.integers(1, n)) for n in SHAPE]
BOXES = st.tuples(*ENDS).map(
    lambda ends: (
        tuple(a for a, _ in ends),
        tuple(min(n, a + size) for (a, size), n in zip(ends, SHAPE, strict=True)),
    )
)


@given(one=BOXES, others=st.lists(BOXES, min_size=1, max_size=3))
@settings(max_examples=50, deadline=None)
def test_a_context_holds_its_box_and_no_voxel_of_a_held_out_box(one, others, everywhere):
    labels = everywhere
    training = LabelledBox(
        raw=labels.raw, labels=labels.labels, box=Box(*one), context=Box.of_shape(SHAPE)
    )
    held_out = [box_of(labels, *ends) for ends in others]
    (apart,) = kept_apart([training], held_out)
    assert apart.reach.contains(training.box)
    assert Box.of_shape(SHAPE).contains(apart.reach)
    for box in held_out:
        if not box.box.clipped_to(training.box).voxels:
            assert not box.box.clipped_to(apart.reach).voxels


def test_a_context_is_cut_along_the_axis_that_leaves_the_most_of_it(place):
    labels = placed(place, "whole")
    training = LabelledBox(
        raw=labels.raw, labels=labels.labels, box=Box((0, 0, 0), (2, 3, 3)),
        context=Box.of_shape(SHAPE),
    )  # fmt: skip
    (apart,) = kept_apart([training], [box_of(labels, (4, 10, 5), (8, 12, 10))])
    assert apart.context == Box((0, 0, 0), (8, 10, 10))


@pytest.mark.parametrize("slices", [(0, 2), (2, 4), (3, 5), (5, 8)])
def test_a_crop_reads_no_grey_value_of_the_validation_slices_and_no_label_twice(slices, place):
    labels = placed(place, "middle")  # slices 2 to 5
    if slices == (0, 2):
        with pytest.raises(
            TrainingError, match=r"0:2 have no labels: .*middle/s0 cover slices 2:6"
        ):
            split([labels], slices)
        return
    training, validation = split([labels], slices)
    for box in [*training, *validation]:
        around = (-9, -9, -9), tuple(n + 9 for n in box.shape_zyx)
        read = box.read_raw(*around)[0]
        of_slices = {*np.unique(read // 20)}
        if box in validation:  # as in a segmentation: with the volume around it
            assert of_slices == {*range(SHAPE[0])}
        else:
            assert of_slices == {*range(box.reach.start[0], box.reach.stop[0])}
            assert not of_slices & {*range(*slices)}
        z, y, x = box.box.slices
        inside = box.read_labels((0, 0, 0), box.shape_zyx)
        np.testing.assert_array_equal(
            inside,
            np.random.default_rng(1).integers(0, 2, (4, 5, 5), "u1")[z.start - 2 : z.stop - 2],
        )
        assert (y, x) == (slice(3, 8), slice(2, 7))
    assert sum(box.box.voxels for box in [*training, *validation]) == labels.box.voxels


def test_labels_of_a_whole_volume_have_no_other_context(place):
    training, (validation,) = split([placed(place, "whole")], (3, 5))
    assert [box.context for box in training] == [None] * 2
    assert validation.context == Box.of_shape(SHAPE)
    assert whole(placed(place, "whole")).context is None


def pairs_of(place, *names):
    return [(place / "raw", place / name) for name in names]


def test_several_label_volumes_of_one_volume_are_named_and_described_apart(place):
    volumes = open_labelled(pairs_of(place, "top", "bottom"), validation_slices=(1, 2))
    assert [box.name.replace(str(place), "") for box in volumes.training] == [
        "/raw/s0 box 0:1,2:8,1:7 (/top/s0)", "/raw/s0 box 2:3,2:8,1:7 (/top/s0)",
        "/raw/s0 slices 6:8 (/bottom/s0)",
    ]  # fmt: skip
    record = volumes.description()
    assert [entry.get("box") for entry in record["training"]] == [
        [[0, 2, 1], [1, 8, 7]], [[2, 2, 1], [3, 8, 7]], None
    ]  # fmt: skip
    assert [entry.get("context") for entry in record["training"]] == [
        [[0, 0, 0], [1, 12, 10]], [[2, 0, 0], [8, 12, 10]], [[2, 0, 0], [8, 12, 10]]
    ]  # fmt: skip
    assert {entry["volume"] for entry in record["training"]} == {f"{place.name}/raw/s0"}


def test_a_volume_with_several_labels_is_measured_once(place, monkeypatch):
    volumes = open_labelled(pairs_of(place, "top", "bottom"), normalisation="zscore")
    measured = []
    monkeypatch.setattr(
        labelled_volumes.LabelledVolumes, "_intensity",
        lambda _, raw, *__: measured.append(raw) or volumes.training[0].intensity,
    )  # fmt: skip
    assert len(volumes.measured().training) == 2
    assert measured == [volumes.training[0].raw]


def test_labels_that_overlap_are_reported(place):
    assert not any("overlap" in note for note in open_labelled(pairs_of(place, "top")).notes)
    notes = open_labelled(pairs_of(place, "top", "middle", "bottom", "whole")).notes
    (note,) = [note for note in notes if "overlap" in note]
    assert note == (
        f"labels {place}/top/s0 and {place}/middle/s0 (and 3 more pairs) of {place}/raw/s0 "
        "overlap: voxels that are labelled in both are learned from both"
    )


def test_validation_on_voxels_that_are_trained_on_is_reported(place):
    volumes = open_labelled(pairs_of(place, "middle"), validation=pairs_of(place, "top"))
    (note,) = [note for note in volumes.notes if "validation" in note]
    assert note == (
        f"validation on {place}/raw/s0 box 0:3,2:8,1:7 shares 25 of 108 voxels with the training: "
        "its scores are too good"
    )
    apart = open_labelled(pairs_of(place, "bottom"), validation=pairs_of(place, "top"))
    assert not any("validation" in note for note in apart.notes)
    assert apart.training[0].reach == Box((3, 0, 0), (8, 12, 10))
    assert [*overlap_notes(apart.training, apart.validation)] == []


@pytest.mark.parametrize("axes", ["zyxc", "czyx"])
@pytest.mark.parametrize("time", [None, 1])
def test_rgb_and_time_points_are_trained_on_as_they_are_segmented(axes, time, tmp_path):
    rng = np.random.default_rng(2)
    raw, labels = (
        rng.integers(0, 255, (2, 3, 5, 9, 8), "u1"),
        rng.integers(0, 2, (2, 5, 9, 8), "u1"),
    )
    chosen = slice(None) if time is not None else 0
    of_raw = np.moveaxis(raw, 1, -1) if axes == "zyxc" else raw
    t = "t" if time is not None else ""
    zarr.create_array(tmp_path / "raw", data=np.ascontiguousarray(of_raw[chosen]))
    zarr.create_array(tmp_path / "labels", data=labels[chosen])
    volumes = open_labelled(
        [(tmp_path / "raw", tmp_path / "labels")], read=ReadAs(axes=t + axes, time=time),
        validation_slices=(3, 5),
    )  # fmt: skip
    for box, part in ((volumes.training[0], slice(0, 3)), (volumes.validation[0], slice(3, 5))):
        assert box.channel_count == 3
        read = box.read_raw((0, 0, 0), box.shape_zyx)
        np.testing.assert_allclose(read, raw[time or 0, :, part] / np.float32(255), rtol=1e-6)
        ids = box.read_labels((0, 0, 0), box.shape_zyx)
        np.testing.assert_array_equal(ids, labels[time or 0, part])


def test_every_voxel_of_a_crop_is_in_one_box(place):
    labels = placed(place, "middle")
    for first, last in product(range(2, 6), range(3, 7)):
        if first < last and (first, last) != (2, 6):
            boxes = [box for part in split([labels], (first, last)) for box in part]
            assert sum(box.box.voxels for box in boxes) == labels.box.voxels


@given(box=BOXES, outer=BOXES, least=st.tuples(*[st.integers(1, 9)] * 3))
@settings(max_examples=50, deadline=None)
def test_a_box_grows_as_far_as_it_must_and_its_context_reaches(box, outer, least, everywhere):
    labels = everywhere
    low, high = np.minimum(box[0], outer[0]), np.maximum(box[1], outer[1])
    context = Box(tuple(map(int, low)), tuple(map(int, high)))
    before = LabelledBox(raw=labels.raw, labels=labels.labels, box=Box(*box), context=context)
    after = grown(before, least)
    assert after.reach == context
    assert context.contains(after.box)
    assert after.box.contains(before.box)
    assert after.box.shape == tuple(
        min(max(n, size), most)
        for n, size, most in zip(before.box.shape, least, context.shape, strict=True)
    )


def test_what_a_box_gains_is_unknown_and_grey_values_stay_in_place(place):
    before = whole(placed(place, "middle"))  # 2:6, 3:8, 2:7
    after = grown(before, (6, 6, 7))
    assert (after.box, after.labelled) == (Box((1, 3, 1), (7, 9, 8)), before.box)
    read = after.read_labels((0, 0, 0), after.shape_zyx)
    np.testing.assert_array_equal(read[1:5, :5, 1:6], before.read_labels((0, 0, 0), (4, 5, 5)))
    assert (read != UNKNOWN).sum() == 100
    np.testing.assert_array_equal(
        after.read_raw((-1, -2, 0), (3, 4, 5)), before.read_raw((-2, -2, -1), (2, 4, 4))
    )
    assert after.name == before.name
