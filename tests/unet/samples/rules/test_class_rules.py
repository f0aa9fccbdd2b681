"""Laws of the label rules: from stored labels to classes and objects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.errors import LabelError
from unet.recipe.training_config import LabelConfig
from unet.samples.rules import registry
from unet.samples.rules.registry import learn, outputs_of
from unet.samples.rules.rule import IGNORED

RULES = [name for name in registry.RULES if outputs_of(LabelConfig(rule=name), dims=3).has_classes]
INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


def cells(shape: tuple[int, int, int], *, seed: int, ids: int = 4) -> np.ndarray:
    """Return coarse random ids, 0 among them."""
    coarse = np.random.default_rng(seed).integers(0, ids, [-(-n // 3) for n in shape])
    fine = coarse.repeat(3, 0).repeat(3, 1).repeat(3, 2)
    return fine[tuple(slice(n) for n in shape)]


def apply_rule(labels, *, rule, dims, ignore=None, object_class=None):
    """Return classes and objects of labels."""
    of_class = object_class if rule == "classes" else None
    config = LabelConfig(rule=rule, ignore=ignore, object_class=of_class)
    learnt = learn(labels, config, spacing=(1.0,) * dims)
    assert learnt.known is None, "classes state unknown voxels themselves"
    return learnt.targets, learnt.objects


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("rule", RULES)
def test_every_integer_dtype_gives_the_same_classes_and_objects(rule: str, dtype: str) -> None:
    labels = cells((4, 9, 9), seed=0)
    wanted = apply_rule(labels, rule=rule, dims=3, object_class=2)
    for found, same in zip(
        apply_rule(labels.astype(dtype), rule=rule, dims=3, object_class=2), wanted, strict=True
    ):
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, same)


def test_classes_stay_as_stored_and_have_objects_only_where_a_class_is_named() -> None:
    labels = cells((2, 9, 9), seed=1)
    classes, objects = apply_rule(labels, rule="classes", dims=3)
    np.testing.assert_array_equal(classes, labels)
    assert objects is None


@pytest.mark.parametrize(("dims", "count"), [(2, 6), (3, 3)])
def test_components_of_a_class_are_numbered_per_slice_in_2d_and_through_slices_in_3d(
    dims: int, count: int
) -> None:
    labels = np.ones((2, 5, 7), np.uint8)
    labels[:, 1:4, 1:3] = labels[:, 1:4, 4:6] = 0  # two cells on each slice
    labels[:, 4, 3] = 0  # touches them at a corner only, and is a third one
    classes, objects = apply_rule(labels, rule="classes", dims=dims, object_class=0)
    assert objects is not None
    assert sorted(np.unique(objects)) == list(range(count + 1))
    np.testing.assert_array_equal(objects > 0, labels == 0)
    np.testing.assert_array_equal(classes, labels)


def test_foreground_is_every_object() -> None:
    labels = np.array([[[0, 1, 7, 2**53]]])
    classes, objects = apply_rule(labels, rule="foreground", dims=2)
    assert classes.tolist() == [[[0, 1, 1, 1]]]
    np.testing.assert_array_equal(objects, labels)


def test_a_boundary_is_marked_on_both_sides_and_background_between_objects_is_boundary() -> None:
    labels = np.array([[[5, 5, 5, 8, 8, 8, 0, 0, 8, 8]]])
    classes, objects = apply_rule(labels, rule="boundary", dims=2)
    assert classes.tolist() == [[[0, 0, 1, 1, 0, 1, 1, 1, 1, 0]]]
    assert objects.tolist() == [[[5, 5, 0, 0, 8, 0, 0, 0, 0, 8]]]


@given(seed=st.integers(0, 2**31), dims=st.sampled_from([2, 3]), ignore=st.sampled_from([None, 3]))
@settings(max_examples=30, deadline=None)
def test_a_voxel_is_boundary_where_a_known_face_neighbour_has_another_id(
    seed: int, dims: int, ignore: int | None
) -> None:
    labels = cells((4, 6, 7), seed=seed)
    wanted = np.zeros(labels.shape, int)
    for place in np.ndindex(*labels.shape):
        here = int(labels[place])
        wanted[place] = here == 0
        for axis in range(3 - dims, 3):
            for step in (-1, 1):
                there = list(place)
                there[axis] += step
                if 0 <= there[axis] < labels.shape[axis]:
                    other = int(labels[tuple(there)])
                    wanted[place] |= other not in (here, ignore)
        if here == ignore:
            wanted[place] = IGNORED
    classes, objects = apply_rule(labels, rule="boundary", dims=dims, ignore=ignore)
    np.testing.assert_array_equal(classes, wanted)
    np.testing.assert_array_equal(objects, np.where(wanted == 0, labels, 0))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_box_that_is_one_voxel_larger_has_the_boundaries_of_the_whole_volume(dims: int) -> None:
    labels = cells((9, 12, 12), seed=3)
    inner, box = np.s_[1:-1, 1:-1, 1:-1], np.s_[2:7, 3:9, 4:11]
    whole = apply_rule(labels, rule="boundary", dims=dims)
    for of_box, of_whole in zip(
        apply_rule(labels[box], rule="boundary", dims=dims), whole, strict=True
    ):
        np.testing.assert_array_equal(of_box[inner], of_whole[box][inner])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("object_class", [0, 1])
@pytest.mark.parametrize(
    ("dtype", "ignore"), [("int32", -1), ("uint64", 2**64 - 1), ("uint8", 255), ("int16", 0)]
)
def test_ignored_voxels_have_no_class_and_belong_to_no_object(
    rule: str, object_class: int, dtype: str, ignore: int
) -> None:
    labels = np.ones((1, 4, 6), dtype)
    labels[0, 1:3, 1:4] = ignore
    classes, objects = apply_rule(
        labels, rule=rule, dims=2, ignore=ignore, object_class=object_class
    )
    ignored = labels == ignore
    np.testing.assert_array_equal(classes == IGNORED, ignored)
    assert not objects[ignored].any()


@pytest.mark.parametrize("ignore", [None, 1])
@pytest.mark.parametrize("rule", RULES)
def test_the_result_can_be_changed_without_changing_the_labels(
    rule: str, ignore: int | None
) -> None:
    labels = cells((2, 6, 6), seed=4)
    before = labels.copy()
    for found in apply_rule(labels, rule=rule, dims=3, ignore=ignore, object_class=0):
        assert not np.shares_memory(found, labels)
    np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize(
    ("labels", "rule", "ignore", "says"),
    [
        (np.ones((1, 2, 2), np.float32), "classes", None, "labels are float32: expected integers"),
        (np.full((1, 2, 2), -3), "foreground", -1, "negative id -3: expected ids from 0 on; set"),
        (np.full((1, 2, 2), -100), "classes", None, "negative id -100"),
        (np.full((1, 1, 1), 2**63, np.uint64), "foreground", None, "the id 9223372036854775808"),
    ],
)
def test_invalid_labels_are_refused_in_one_line(
    labels: np.ndarray, rule: str, ignore: int | None, says: str
) -> None:
    with pytest.raises(LabelError) as caught:
        apply_rule(labels, rule=rule, dims=2, ignore=ignore)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
