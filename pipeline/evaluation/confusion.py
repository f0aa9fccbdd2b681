"""Agreement of predicted classes with the truth, as counts of voxels that add up over blocks.

Every figure is a ratio of counts of voxels, so a volume of any size is measured block by block,
``sum(parts, start=ConfusionMatrix.empty(classes=2))`` in any order, to the last digit.

A ratio 0 / 0 means nothing to find and nothing found, and is 1. A class that occurs only in the
truth or only in the prediction has IoU and Dice 0. No figure is NaN.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import GeometryError, VolumeError


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionMatrix:
    """Voxels per pair of classes: ``counts[t][p]`` have class t in the truth, p in the prediction.

    ::

                      predicted 0   predicted 1
            truth 0 |     TN      |     FP          for class 1
            truth 1 |     FN      |     TP

    Figures per class are tuples in the order of the classes. Counts are Python integers and cannot
    overflow. Raises GeometryError for a matrix that is not square, or has counts below 0.
    """

    counts: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.counts or any(len(row) != len(self.counts) for row in self.counts):
            raise GeometryError(
                f"confusion matrix {self.counts}: expected a square matrix that is not empty"
            )
        if any(count < 0 for row in self.counts for count in row):
            raise GeometryError(f"confusion matrix {self.counts}: expected counts of 0 or more")

    @classmethod
    def empty(cls, *, classes: int) -> ConfusionMatrix:
        """Return a matrix of zeros, the start of a sum over blocks."""
        return cls(counts=((0,) * classes,) * classes)

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Return the matrix of both volumes. Raises GeometryError for other classes."""
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        if self.classes != other.classes:
            raise GeometryError(
                f"cannot add matrices of {self.classes} and {other.classes} classes"
            )
        return ConfusionMatrix(
            counts=tuple(
                tuple(map(operator.add, a, b))
                for a, b in zip(self.counts, other.counts, strict=True)
            )
        )

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.counts)

    @property
    def voxels(self) -> int:
        """Number of voxels that were compared."""
        return sum(self.truth_voxels)

    @property
    def true_positives(self) -> tuple[int, ...]:
        """Voxels of each class in both."""
        return tuple(row[c] for c, row in enumerate(self.counts))

    @property
    def truth_voxels(self) -> tuple[int, ...]:
        """Voxels of each class in the truth."""
        return tuple(sum(row) for row in self.counts)

    @property
    def predicted_voxels(self) -> tuple[int, ...]:
        """Voxels of each class in the prediction."""
        return tuple(sum(column) for column in zip(*self.counts, strict=True))

    @property
    def iou(self) -> tuple[float, ...]:
        """Intersection over union (Jaccard index) per class: TP / (TP + FP + FN)."""
        return tuple(_ratio(tp, t + p - tp) for tp, t, p in self._margins())

    @property
    def dice(self) -> tuple[float, ...]:
        """Dice coefficient (F1) per class: 2 TP / (2 TP + FP + FN)."""
        return tuple(_ratio(2 * tp, t + p) for tp, t, p in self._margins())

    @property
    def precision(self) -> tuple[float, ...]:
        """Share of the predicted voxels that are right, per class: TP / (TP + FP).

        For a class that was never predicted: 1 if the truth does not have it either, else 0.
        """
        return tuple(_ratio(tp, p, if_none=float(t == 0)) for tp, t, p in self._margins())

    @property
    def recall(self) -> tuple[float, ...]:
        """Share of the true voxels that were predicted, per class: TP / (TP + FN).

        For a class that the truth does not have: 1 if it was never predicted either, else 0.
        """
        return tuple(_ratio(tp, t, if_none=float(p == 0)) for tp, t, p in self._margins())

    @property
    def mean_iou(self) -> float:
        """Mean IoU of the classes in truth or prediction; 1 without any."""
        present = [
            iou for iou, (_, t, p) in zip(self.iou, self._margins(), strict=True) if t + p > 0
        ]
        return sum(present) / len(present) if present else 1.0

    @property
    def accuracy(self) -> float:
        """Share of the voxels with the right class; 1 without voxels."""
        return _ratio(sum(self.true_positives), self.voxels)

    @property
    def pixel_error(self) -> float:
        """Share of the voxels with the wrong class; 0 without voxels."""
        return _ratio(self.voxels - sum(self.true_positives), self.voxels, if_none=0.0)

    def _margins(self) -> list[tuple[int, int, int]]:
        """Return (in both, in truth, in prediction) per class."""
        return list(zip(self.true_positives, self.truth_voxels, self.predicted_voxels, strict=True))


def confusion(
    truth: NDArray[Any], prediction: NDArray[Any], *, classes: int, ignore: int | None = None
) -> ConfusionMatrix:
    """Count the voxels of one block by their class in ``truth`` and in ``prediction``.

    Both are integers (or bool) of one shape, with values from 0 to ``classes - 1``. Voxels with
    the true label ``ignore``, which may be any integer, are left out.
    Raises GeometryError for different shapes, VolumeError for other values or types.
    """
    if truth.shape != prediction.shape:
        raise GeometryError(
            f"truth has shape {truth.shape}, prediction {prediction.shape}: expected the same"
        )
    for name, labels in (("truth", truth), ("prediction", prediction)):
        if labels.dtype.kind not in "biu":
            raise VolumeError(f"{name} is {labels.dtype}: expected integers (classes)")
    if ignore is not None:
        kept = truth != ignore
        truth, prediction = truth[kept], prediction[kept]
    _check_range(truth, name="truth", classes=classes)
    _check_range(prediction, name="prediction", classes=classes)
    pairs = truth.ravel().astype(np.int64) * classes + prediction.ravel().astype(np.int64)
    counts = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return ConfusionMatrix(counts=tuple(tuple(row) for row in counts.tolist()))


def _check_range(labels: NDArray[Any], *, name: str, classes: int) -> None:
    """Raise VolumeError for a label that is not a class."""
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise VolumeError(
            f"{name} has classes {labels.min()} to {labels.max()}: expected 0 to {classes - 1}; "
            "pass the right number of classes, or the label to ignore"
        )


def _ratio(part: int, whole: int, *, if_none: float = 1.0) -> float:
    return part / whole if whole else if_none
