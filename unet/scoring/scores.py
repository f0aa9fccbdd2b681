"""The scores of a validation, the same fields whatever the outputs are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..samples.rules.rule import Learnt


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of a validation; docs/training-targets.md says what they are of each output."""

    loss: float
    """Mean cross-entropy per voxel (and channel), without weights."""
    pixel_error: float
    """Share of wrong voxels; of a distance or centres, the mean difference of score and target."""
    iou: tuple[float, ...]
    """Per class or channel, as ``dice``."""
    dice: tuple[float, ...]
    mean_iou: float
    """Over the classes or channels that occur in truth or prediction."""


class Tally(Protocol):
    """Sums over the voxels of some tiles; those of several ranks can be added."""

    @property
    def sums(self) -> NDArray[np.float64]:
        """The sums so far, in one row."""

    def add(self, truth: Learnt, scores_czyx: NDArray[np.float32]) -> None:
        """Add the voxels of a tile."""

    def scores(self, sums: NDArray[np.float64]) -> Scores:
        """Return the scores that follow from the sums of all ranks."""


def ratios(part: NDArray[np.float64], whole: NDArray[np.float64]) -> tuple[float, ...]:
    """Return each part of its whole; 1 where there is nothing."""
    filled = np.where(whole > 0, part / np.maximum(whole, 1), 1.0)
    return tuple(float(value) for value in filled)


def mean_of_present(values: Sequence[float], counts: NDArray[np.float64]) -> float:
    """Return the mean of the values whose count is not 0; 1 without any."""
    present = [value for value, count in zip(values, counts, strict=True) if count > 0]
    return sum(present) / len(present) if present else 1.0
