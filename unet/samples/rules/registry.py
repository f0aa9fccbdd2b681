"""All label rules by the name that a recipe states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.network_outputs import NetworkOutputs

from ...recipe import choices
from ...recipe.training_config import LabelConfig
from .affinities import Affinities
from .boundary import Boundary
from .centre import Centre
from .classes import Classes
from .distance import Distance
from .foreground import Foreground
from .rule import IGNORED, Integers, Learnt, Rule, checked_ids

RULES: Mapping[choices.Rule, Rule] = MappingProxyType(
    {
        "classes": Classes(),
        "foreground": Foreground(),
        "boundary": Boundary(),
        "affinities": Affinities(),
        "distance": Distance(),
        "centre": Centre(),
    }
)


def learn(labels_zyx: NDArray[Any], labels: LabelConfig, *, spacing: Sequence[float]) -> Learnt:
    """Return what a network learns of a box of stored labels, of any integer dtype.

    spacing: size of a voxel per axis of the network, in any unit; with two, each z is an image.
    Raises LabelError for labels that are not ids.
    """
    stored = checked_ids(labels_zyx, ignore=labels.ignore)
    return RULES[labels.rule].learn(stored, labels, spacing=spacing)


def counted_classes(labels_zyx: NDArray[Any], labels: LabelConfig, *, dims: int) -> Integers:
    """Return the classes (z, y, x) that labels are counted and sampled by, IGNORED where unknown.

    Those that the network learns; where it learns none, inside (0) and boundary (1).
    """
    stored = checked_ids(labels_zyx, ignore=labels.ignore)
    classes = RULES[labels.rule].classes(stored, dims=dims)
    return classes if stored.unknown is None else np.where(stored.unknown, IGNORED, classes)


def counted_class_count(labels: LabelConfig, classes: int) -> int:
    """Return how many classes :func:`counted_classes` has at most. classes: of the network."""
    names = RULES[labels.rule].class_names
    if names is not None:
        return len(names)
    return classes if outputs_of(labels, dims=3).has_classes else 2


def outputs_of(labels: LabelConfig, *, dims: int) -> NetworkOutputs:
    """Return what the channels of a network are that learns from these labels."""
    return RULES[labels.rule].outputs(labels, dims=dims)
