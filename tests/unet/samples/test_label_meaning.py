"""Painted labels are the network's classes, whatever is learnt from the labels of other volumes."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.base.errors import LabelError
from pipeline.volume.label_values import UNKNOWN as STORED_UNKNOWN
from unet.recipe.training_config import LabelConfig
from unet.samples.label_meaning import check_painted, labels_of
from unet.samples.rules.registry import counted_classes
from unet.samples.rules.rule import IGNORED, UNKNOWN
from unet.samples.sampling import classes_of, survey


class Painted:
    """A volume whose labels are painted classes, or ids."""

    name, spacing_zyx = "painted", (1.0, 1.0, 1.0)

    def __init__(self, labels, names=("inside", "boundary")):
        self.labels, self.painted_classes = labels, names
        self.shape_zyx = labels.shape

    def read_labels(self, start, stop):
        padded = np.pad(self.labels, 1, constant_values=UNKNOWN)
        return padded[tuple(slice(a + 1, b + 1) for a, b in zip(start, stop, strict=True))]


@pytest.fixture
def labels():
    values = np.full((3, 5, 6), UNKNOWN, np.int64)
    values[1, 1, 1:5] = [0, 0, 1, 1]
    return values


def test_the_unknown_label_of_stored_volumes_is_that_of_samples():
    assert STORED_UNKNOWN == UNKNOWN


@pytest.mark.parametrize("rule", ["classes", "foreground", "boundary"])
@pytest.mark.parametrize("ignore", [None, 0, 1])
def test_painted_classes_are_learnt_whatever_the_rule_and_the_ignored_label(labels, rule, ignore):
    config = LabelConfig(rule=rule, ignore=ignore)
    found = classes_of(Painted(labels), (0, 0, 0), labels.shape, config, dims=3)
    assert np.array_equal(found, np.where(labels == UNKNOWN, IGNORED, labels))
    assert survey(Painted(labels), config, classes=2, dims=3).counts == (2, 2)
    assert labels_of(Painted(labels, names=()), config) == config


def test_an_unknown_label_of_int64_is_ignored_beside_another_one():
    values = np.array([[[3, UNKNOWN, 0, 255]]])
    found = counted_classes(values, LabelConfig(ignore=255), dims=3)
    assert found.tolist() == [[[3, IGNORED, 0, IGNORED]]]


def test_classes_of_another_network_are_refused(labels):
    names = ("inside", "boundary")
    check_painted([Painted(labels)], LabelConfig(), names)
    check_painted([Painted(labels, names=())], LabelConfig(), ("a", "b", "c"))
    check_painted([Painted(labels)], LabelConfig(), ("background", "class 1"))
    for others in (("inside", "boundary", "gap"), ("boundary", "inside")):
        with pytest.raises(LabelError, match="painted for the classes inside, boundary, and the"):
            check_painted([Painted(labels)], LabelConfig(), others)
