"""Classes of each voxel against the true ones: confusion counts and cross-entropy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..samples.rules.rule import IGNORED, Learnt
from .scores import Scores, mean_of_present, ratios


class ClassTally:
    """Counts of voxels by true and by predicted class."""

    def __init__(self, classes: int) -> None:
        self._counts = np.zeros((classes, classes), np.int64)
        self._entropy = 0.0

    @property
    def sums(self) -> NDArray[np.float64]:
        """The entropy, then the counts [truth, prediction]."""
        return np.array([self._entropy, *self._counts.ravel()], np.float64)

    def add(self, truth: Learnt, scores_czyx: NDArray[np.float32]) -> None:
        """Count the known voxels of a tile."""
        classes = truth.targets
        known = classes != IGNORED
        right = np.take_along_axis(scores_czyx, np.where(known, classes, 0)[None], axis=0)[0]
        self._entropy -= float(np.log(np.maximum(right[known], 1e-12)).sum())
        pairs = classes[known] * len(self._counts) + scores_czyx.argmax(axis=0)[known]
        found = np.bincount(pairs, minlength=self._counts.size)
        self._counts += found.reshape(self._counts.shape)

    def scores(self, sums: NDArray[np.float64]) -> Scores:
        """Return the scores of counted voxels."""
        return scores_of(float(sums[0]), sums[1:].reshape(self._counts.shape))


def scores_of(entropy: float, counts: NDArray[np.float64]) -> Scores:
    """Return the scores of voxels counted as ``counts[truth, prediction]``.

    They are those of ``pipeline.evaluation.confusion.ConfusionMatrix``, 0 / 0 included.
    entropy: summed over the voxels.
    """
    both = np.diag(counts)
    truth, predicted, voxels = counts.sum(axis=1), counts.sum(axis=0), counts.sum()
    either = truth + predicted - both
    iou = ratios(both, either)
    return Scores(
        loss=float(entropy / max(1.0, voxels)),
        pixel_error=float((voxels - both.sum()) / max(1.0, voxels)),
        iou=iou,
        dice=ratios(2 * both, truth + predicted),
        mean_iou=mean_of_present(iou, either),
    )
