"""Laws of rules whose targets are not classes: plain formulas, and the same in any box."""

from __future__ import annotations

from itertools import product
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet.recipe import choices
from unet.recipe.training_config import LabelConfig
from unet.samples.rules.registry import RULES, counted_classes, learn, outputs_of
from unet.samples.rules.rule import IGNORED

OFFSETS = {2: ((-1, 0), (0, -1), (3, -2)), 3: ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (1, -2, 3))}
CONFIGS = {
    "affinities": lambda dims, **more: LabelConfig(
        rule="affinities", offsets=OFFSETS[dims], **more
    ),
    "distance": lambda dims, **more: LabelConfig(rule="distance", scale=1.2, **more),
    "centre": lambda dims, **more: LabelConfig(rule="centre", scale=1.5, **more),
}  # fmt: skip
SPACINGS = {2: (1.0, 1.5), 3: (2.0, 1.0, 1.0)}


def cells(shape, *, seed, ids=4):
    """Return coarse random ids, 0 among them."""
    coarse = np.random.default_rng(seed).integers(0, ids, [-(-n // 3) for n in shape])
    fine = coarse.repeat(3, 0).repeat(3, 1).repeat(3, 2)
    return fine[tuple(slice(n) for n in shape)]


def images(labels, dims):
    """Return the parts that a network of so many axes learns separately."""
    return [labels] if dims == 3 else list(labels)


def test_names_of_recipes_and_the_registry_are_the_same():
    assert set(RULES) == set(get_args(choices.Rule))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dims", [2, 3])
def test_a_rule_makes_a_target_per_channel_that_it_states(rule, dims):
    labels = LabelConfig(rule=rule)
    learnt = learn(cells((3, 9, 9), seed=0), labels, spacing=SPACINGS[dims])
    outputs = outputs_of(labels, dims=dims)
    if outputs.has_classes:
        assert learnt.targets.shape == (3, 9, 9)
        assert learnt.known is None
    else:
        assert learnt.targets.shape == learnt.known.shape == (len(outputs.names), 3, 9, 9)
        assert learnt.targets.dtype == np.float32
        assert learnt.targets.min() >= 0
        assert learnt.targets.max() <= 1
        assert not learnt.targets[~learnt.known].any()


@given(seed=st.integers(0, 2**31), dims=st.sampled_from([2, 3]), ignore=st.sampled_from([None, 3]))
@settings(max_examples=15, deadline=None)
def test_an_affinity_is_1_where_both_voxels_have_one_id_and_unknown_where_either_is(
    seed, dims, ignore
):
    labels = cells((3, 6, 7), seed=seed)
    learnt = learn(labels, CONFIGS["affinities"](dims, ignore=ignore), spacing=SPACINGS[dims])
    for channel, offset in enumerate(OFFSETS[dims]):
        step = np.array((0,) * (3 - dims) + offset)
        for place in np.ndindex(*labels.shape):
            other = tuple(np.array(place) + step)
            is_inside = all(0 <= n < size for n, size in zip(other, labels.shape, strict=True))
            is_known = is_inside and ignore not in (labels[place], labels[other])
            assert learnt.known[(channel, *place)] == is_known
            is_one = is_known and labels[place] == labels[other] != 0
            assert learnt.targets[(channel, *place)] == is_one


@pytest.mark.parametrize("dims", [2, 3])
def test_without_offsets_affinities_are_those_to_the_nearest_neighbours(dims):
    outputs = outputs_of(LabelConfig(rule="affinities"), dims=dims)
    assert (
        outputs.names
        == {
            2: ("affinity -1,0", "affinity 0,-1"),
            3: ("affinity -1,0,0", "affinity 0,-1,0", "affinity 0,0,-1"),
        }[dims]
    )


@pytest.mark.parametrize("dims", [2, 3])
def test_a_distance_is_that_to_the_nearest_voxel_of_another_object(dims):
    labels, spacing = cells((4, 8, 9), seed=5), SPACINGS[dims]
    learnt = learn(labels, CONFIGS["distance"](dims), spacing=spacing)
    steps = np.array(spacing) / min(spacing)
    assert learnt.known.mean() > 0.3
    for number, image in enumerate(images(labels, dims)):
        places = np.argwhere(np.ones(image.shape))
        for place in map(tuple, places):
            far = np.sqrt(np.square((places - place) * steps).sum(axis=1)).reshape(image.shape)
            signed = far[image != image[place]].min() if image[place] else -far[image > 0].min()
            wanted = (1 + np.tanh(np.clip(signed, -3.6, 3.6) / 1.2)) / 2
            whole = place if dims == 3 else (number, *place)
            if learnt.known[(0, *whole)]:
                assert learnt.targets[(0, *whole)] == pytest.approx(wanted, abs=1e-6)


def test_a_surface_lies_at_one_half():
    row = np.array([[[0, 0, 0, 0, 0, 0, 7, 7, 7, 7, 7, 7, 4, 4, 4, 4, 4, 4, 0, 0, 0, 0, 0, 0]]])
    config = LabelConfig(rule="distance", scale=1.0)
    found = learn(np.tile(row, (1, 9, 1)), config, spacing=(1.0, 1.0)).targets[0, 0, 4]
    assert ((found > 0.5) == (row[0, 0] > 0)).all()
    assert found[11] == found[12] == found[6], "objects that touch have a surface between them"


@pytest.mark.parametrize("dims", [2, 3])
def test_a_centre_is_a_peak_at_the_voxel_nearest_to_the_mean_of_each_part(dims):
    labels = np.zeros((7, 14, 15), int)
    labels[1:6, 2:7, 2:5], labels[2:5, 2:5, 5:12], labels[3, 9:12, 3:6] = 1, 2, 1
    spacing = SPACINGS[dims]
    learnt = learn(labels, CONFIGS["centre"](dims), spacing=spacing)
    assert learnt.known.all()
    steps = np.array(spacing) / min(spacing)
    wanted = np.zeros(labels.shape)
    boxes = [np.s_[1:6, 2:7, 2:5], np.s_[2:5, 2:5, 5:12], np.s_[3:4, 9:12, 3:6]]
    for z, y, x in boxes:
        parts = (
            [(z, y, x)] if dims == 3 else [(slice(k, k + 1), y, x) for k in range(z.start, z.stop)]
        )
        for part in parts:
            places = np.argwhere(np.ones(labels[part].shape))
            middle = (places.max(axis=0) + places.min(axis=0)) / 2
            squares = np.square((places - middle)[:, 3 - dims :] * steps).sum(axis=1)
            wanted[part] = np.exp(-squares / (2 * 1.5**2)).reshape(labels[part].shape)
    np.testing.assert_allclose(learnt.targets[0], wanted, atol=1e-6)


@pytest.mark.parametrize("rule", CONFIGS)
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("ignore", [None, 3])
def test_what_a_box_states_is_what_the_whole_volume_has(rule, dims, ignore):
    labels = cells((12, 30, 30), seed=2, ids=9)
    config, spacing = CONFIGS[rule](dims, ignore=ignore), SPACINGS[dims]
    whole = learn(labels, config, spacing=spacing)
    reach = (0,) * (3 - dims) + RULES[rule].reach(config, spacing=spacing)
    for start in product((0, 3), (2, 7), (1, 9)):
        box = tuple(slice(a, a + n) for a, n in zip(start, (9, 16, 17), strict=True))
        part = learn(labels[box], config, spacing=spacing)
        place = (slice(None), *box)
        known = part.known
        assert not (known & ~whole.known[place]).any(), "a box knows no more than the volume"
        np.testing.assert_array_equal(part.targets[known], whole.targets[place][known])
        if rule != "centre" and ignore is None:
            inner = (slice(None), *(slice(n, size - n) for n, size in
                                    zip(reach, (9, 16, 17), strict=True)))  # fmt: skip
            assert known[inner].all(), "as far from its end as the rule looks, a box knows all"


@pytest.mark.parametrize("rule", CONFIGS)
def test_targets_near_unknown_voxels_are_the_same_whatever_these_are(rule):
    labels = cells((1, 18, 20), seed=7, ids=5)
    labels[0, 6:10, 8:12] = 77
    unknown = labels == 77
    config = CONFIGS[rule](2, ignore=77)
    learnt = learn(labels, config, spacing=(1.0, 1.0))
    assert not learnt.known[:, unknown].any()
    assert learnt.known.any()
    for seed in range(4):
        filled = labels.copy()
        filled[unknown] = np.random.default_rng(seed).integers(0, 5, unknown.sum())
        other = learn(filled, CONFIGS[rule](2), spacing=(1.0, 1.0))
        assert not (learnt.known & ~other.known).any()
        np.testing.assert_array_equal(learnt.targets[learnt.known], other.targets[learnt.known])


@pytest.mark.parametrize("rule", CONFIGS)
def test_labels_are_counted_by_inside_and_boundary(rule):
    labels = cells((2, 9, 9), seed=1)
    found = counted_classes(labels, CONFIGS[rule](3, ignore=2), dims=3)
    same = counted_classes(labels, LabelConfig(rule="boundary", ignore=2), dims=3)
    np.testing.assert_array_equal(found, same)
    assert set(np.unique(found)) == {0, 1, IGNORED}
