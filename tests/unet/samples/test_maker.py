"""The laws of a training sample: what is beyond its core counts as in the whole volume."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unet import UNetConfig
from unet.recipe.augment_config import AugmentConfig
from unet.recipe.training_config import LabelConfig, TrainingConfig
from unet.samples.maker import SampleMaker
from unet.samples.rules.registry import learn
from unet.samples.rules.rule import IGNORED
from unet.samples.sampling import PatchSampler, Place
from unet.samples.truth import truth_of
from unet.samples.weight_map import border_weights


class Stored:
    """Labels of a test's own, mirrored past the edges; grey values are the labels."""

    name = "stored"

    def __init__(self, labels, spacing=(1.0, 1.0, 1.0)):
        self.labels, self.spacing_zyx = labels, spacing
        self.shape_zyx = labels.shape

    def read_labels(self, start, stop):
        found = self.labels
        for axis, (a, b) in enumerate(zip(start, stop, strict=True)):
            size = found.shape[axis]
            index = np.abs((np.arange(a, b) + size - 1) % max(1, 2 * size - 2) - size + 1)
            found = np.take(found, index, axis=axis)
        return found

    def read_raw(self, start, stop):
        return self.read_labels(start, stop)[None].astype(np.float32)


FOREGROUND = LabelConfig(rule="foreground")


def maker(volume, network, core, *, labels=FOREGROUND, **training):
    return SampleMaker(
        volumes=(volume,),
        network=network,
        training=TrainingConfig(augment=AugmentConfig.none(), **training),
        labels=labels,
        sampler=At(shapes=(volume.shape_zyx,), surveys=(), core=core, seed=0),
        class_weights=(1.0, 1.0),
    )


class At(PatchSampler):
    """Every patch lies where the step says, along x."""

    def place(self, step, number, *, attempt=0):
        return Place(0, (0, 16, step))


def stripes(*, width):
    """Return ids of two objects with a gap of this width between columns 64 and 64 + width."""
    ids = np.zeros((1, 64, 160), np.int64)
    ids[:, :, :64] = 1
    ids[:, :, 64 + width :] = 2
    return ids


@pytest.mark.parametrize("width", [2, 6, 10])
@pytest.mark.parametrize("start", [62, 64, 65])
def test_a_gap_has_its_weight_of_the_whole_volume_even_if_the_core_ends_in_it(width, start):
    ids = stripes(width=width)
    network = UNetConfig(dims=2, base_channels=2, levels=3)
    core = (1, 16, 4)
    _, classes, weights = maker(Stored(ids), network, core, border_weight=10.0).sample(start, 0)
    whole = learn(ids, FOREGROUND, spacing=(1, 1))
    whole_classes, objects = whole.targets, whole.objects
    whole = 1 + border_weights(objects[0], w0=10.0, sigma=5.0)
    place = slice(16, 16 + classes.shape[1]), slice(start, start + classes.shape[2])
    np.testing.assert_array_equal(classes[0], whole_classes[0][place])
    np.testing.assert_allclose(weights[0], whole[place], atol=0.12)  # 1 % of w0, and rounding
    assert float(whole[place].max()) > 1.5


def test_a_boundary_has_both_sides_even_without_border_weights():
    network = UNetConfig(dims=2, base_channels=2, levels=2)
    made = maker(
        Stored(stripes(width=0)), network, (1, 16, 4), labels=LabelConfig(rule="boundary"),
        border_weight=0.0,
    )  # fmt: skip
    for start, column in ((64, 0), (60, 3)):
        _, classes, _ = made.sample(start, 0)
        assert classes[0].float().mean(dim=0)[:4].tolist() == [float(c == column) for c in range(4)]


def test_an_axis_without_a_halo_is_trained_on_too():
    network = UNetConfig(
        dims=3, base_channels=2, levels=2, kernels=((1, 3, 3), (1, 3, 3)), pooling=((1, 2, 2),)
    )
    assert network.halo[0] == 0
    ids = np.random.default_rng(0).integers(0, 3, (6, 48, 64))
    x, classes, weights = maker(Stored(ids), network, (2, 16, 16)).sample(8, 0)
    assert classes.shape[1:] == network.output_shape(tuple(x.shape[2:])) == (2, 16, 16)
    np.testing.assert_array_equal(classes[0], ids[0:2, 16:32, 8:24] > 0)
    assert weights.shape == classes.shape


@pytest.mark.parametrize("ignore", [2**64 - 1, 2**63, 7])
def test_unknown_voxels_may_have_any_label(ignore):
    ids = stripes(width=4).astype(np.uint64)
    ids[:, 20:24] = ignore
    network = UNetConfig(dims=2, base_channels=2, levels=2)
    labels = LabelConfig(rule="foreground", ignore=ignore)
    _, classes, weights = maker(Stored(ids), network, (1, 16, 8), labels=labels).sample(60, 0)
    unknown = np.zeros((16, 8), bool)
    unknown[4:8] = True
    np.testing.assert_array_equal(classes[0] == IGNORED, unknown)
    np.testing.assert_array_equal(weights[0] == 0, unknown)


TARGETS = {
    "affinities": LabelConfig(rule="affinities", offsets=((-1, 0), (0, -1), (0, 7), (-15, 3))),
    "distance": LabelConfig(rule="distance", scale=2.0),
    "centre": LabelConfig(rule="centre"),
}


@pytest.mark.parametrize("rule", TARGETS)
@pytest.mark.parametrize("ignore", [None, 5])
def test_targets_of_a_patch_are_those_of_the_whole_volume(rule, ignore):
    rng = np.random.default_rng(4)
    ids = rng.integers(0, 9, (1, 8, 20)).repeat(8, 1).repeat(8, 2)
    labels = replace(TARGETS[rule], ignore=ignore)
    network = UNetConfig(dims=2, base_channels=2, levels=3)
    whole = learn(ids, labels, spacing=(1, 1))
    for start in (40, 61):
        x, targets, weights = maker(
            Stored(ids), network, (1, 16, 20), labels=labels, border_weight=0.0
        ).sample(start, 0)
        shape = targets.shape[2:]
        assert shape == network.output_shape(tuple(x.shape[2:]))
        place = (slice(None), 0, slice(16, 16 + shape[0]), slice(start, start + shape[1]))
        known = weights[0].numpy() > 0
        assert known.mean() > (0.1 if rule == "centre" else 0.3)
        assert known.all() or rule == "centre" or ignore is not None
        assert not (known & ~whole.known[place]).any()
        np.testing.assert_array_equal(targets[0].numpy()[known], whole.targets[place][known])
        assert not targets[0].numpy()[~known].any()


def test_balanced_affinities_weigh_zeros_and_ones_of_each_channel_the_same():
    ids = stripes(width=6)
    labels = LabelConfig(rule="affinities", offsets=((0, -1), (0, -9)))
    network = UNetConfig(dims=2, base_channels=2, levels=3)
    made = maker(Stored(ids), network, (1, 16, 24), labels=labels, class_balance=True)
    _, targets, weights = made.sample(56, 0)
    for target, weight in zip(targets[0], weights[0], strict=True):
        ones, zeros = (float(weight[target == value].sum()) for value in (1, 0))
        assert ones == pytest.approx(zeros, rel=1e-5)
        assert float(weight.max()) <= 10


def test_a_volume_s_truth_in_a_box_is_that_of_the_whole_volume():
    ids = np.random.default_rng(1).integers(0, 6, (6, 8, 9)).repeat(3, 0).repeat(5, 1).repeat(5, 2)
    volume = Stored(ids, spacing=(2.0, 1.0, 1.0))
    for rule, labels in {
        "boundary": LabelConfig(rule="boundary"),
        "affinities": LabelConfig(rule="affinities"),
        "distance": LabelConfig(rule="distance", scale=1.5),
    }.items():
        whole = learn(ids, labels, spacing=volume.spacing_zyx)
        box = np.s_[6:11, 12:25, 13:30]
        found = truth_of(volume, (6, 12, 13), (11, 25, 30), labels, dims=3)
        np.testing.assert_array_equal(found.targets, whole.targets[(..., *box)])
        if rule != "boundary":
            assert found.known.all()
