"""What a network should give in a box of a volume, for its validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..recipe.training_config import LabelConfig
from .label_meaning import labels_of
from .rules.registry import RULES, learn
from .rules.rule import Learnt
from .sampling import LabelledVolume


def truth_of(
    volume: LabelledVolume,
    start: Sequence[int],
    stop: Sequence[int],
    labels: LabelConfig,
    *,
    dims: int,
) -> Learnt:
    """Return what a network of so many axes learns of a box: as in the whole volume.

    The labels around the box are read as far as the rule looks, mirrored past the volume's edge.
    """
    labels = labels_of(volume, labels)
    spacing = volume.spacing_zyx[3 - dims :]
    around = (0,) * (3 - dims) + RULES[labels.rule].reach(labels, spacing=spacing)
    first = tuple(a - n for a, n in zip(start, around, strict=True))
    last = tuple(b + n for b, n in zip(stop, around, strict=True))
    found = learn(volume.read_labels(first, last), labels, spacing=spacing)
    ends = zip(start, stop, around, strict=True)
    inner: Any = (..., *(slice(n, n + b - a) for a, b, n in ends))
    return Learnt(
        targets=found.targets[inner],
        known=None if found.known is None else found.known[inner],
        objects=None if found.objects is None else found.objects[inner],
    )
