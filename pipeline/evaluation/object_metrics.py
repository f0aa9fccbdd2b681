"""Agreement of predicted and true objects: figures of a contingency table.

scikit-image computes the figures that it has. All but the matches are restricted to the truth's
foreground: voxels whose true id is 0 do not count. A predicted id of 0 means:

- adapted Rand error and variation of information (scikit-image): one segment like any other;
- V-Rand and V-Info (ISBI 2012): no segment, so every such voxel is a separate segment.

With n_ij voxels of true object i in predicted object j, t_i and s_j the sums of its rows and
columns, n the sum of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import adapted_rand_error, variation_of_information

from ..base.errors import LabelError
from .contingency import ContingencyTable
from .matching import Match, match_objects


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectFigures:
    """Figures of objects, of one table or as the mean over slices; counts are sums then."""

    adapted_rand_error: float
    """``1 - F`` of the pairs of voxels in one object (SNEMI3D; Arganda-Carreras et al. 2015)."""
    rand_precision: float
    """Share of the pairs in one predicted object that are also in one true object."""
    rand_recall: float
    """Share of the pairs in one true object that are also in one predicted object."""
    voi_split: float
    """H(prediction | truth) in bits: how much true objects are split (Meilă 2007)."""
    voi_merge: float
    """H(truth | prediction) in bits: how much true objects are merged."""
    v_rand: float
    v_rand_split: float
    v_rand_merge: float
    v_info: float
    v_info_split: float
    v_info_merge: float
    truth_objects: int
    predicted_objects: int
    matches: tuple[Match, ...]

    @property
    def voi(self) -> float:
        """Variation of information in bits, split and merge together."""
        return self.voi_split + self.voi_merge

    def to_json(self) -> dict[str, Any]:
        """Return all figures as JSON values."""
        return {**asdict(self), "voi": self.voi, "matches": [asdict(one) for one in self.matches]}


def object_figures(table: ContingencyTable) -> ObjectFigures:
    """Return the figures of a table. Raises LabelError if the truth has no object."""
    foreground = table.foreground()
    if not foreground.voxels:
        raise LabelError("the truth has no object here: every voxel is 0 or ignored")
    error, precision, recall = _adapted_rand(foreground)
    split, merge = _variation_of_information(foreground)
    v_rand = _v_rand(foreground)
    v_info = _v_info(foreground)
    return ObjectFigures(
        adapted_rand_error=error,
        rand_precision=precision,
        rand_recall=recall,
        voi_split=split,
        voi_merge=merge,
        v_rand=v_rand[0],
        v_rand_split=v_rand[1],
        v_rand_merge=v_rand[2],
        v_info=v_info[0],
        v_info_split=v_info[1],
        v_info_merge=v_info[2],
        truth_objects=int(np.count_nonzero(table.truth_sizes[0])),
        predicted_objects=int(np.count_nonzero(table.predicted_sizes[0])),
        matches=match_objects(table),
    )


def mean_figures(parts: Sequence[ObjectFigures]) -> ObjectFigures:
    """Return the mean of every figure over ``parts``, slices for example; counts are summed."""
    values: dict[str, Any] = {}
    for field in fields(ObjectFigures):
        column = [getattr(part, field.name) for part in parts]
        if field.name == "matches":
            values["matches"] = tuple(_mean_match(at) for at in zip(*column, strict=True))
        elif field.name in ("truth_objects", "predicted_objects"):
            values[field.name] = sum(column)
        else:
            values[field.name] = fmean(column)
    return ObjectFigures(**values)


def _mean_match(parts: Sequence[Match]) -> Match:
    return Match(
        iou=parts[0].iou,
        true_positives=sum(part.true_positives for part in parts),
        precision=fmean(part.precision for part in parts),
        recall=fmean(part.recall for part in parts),
        f1=fmean(part.f1 for part in parts),
    )


def _adapted_rand(foreground: ContingencyTable) -> tuple[float, float, float]:
    """Return error, precision and recall by scikit-image.

    Its precision is divided by the pairs of its first argument, the truth. By its own description
    that is the recall, so the two are exchanged here. 0 / 0 (objects of one voxel each have no
    pairs) means that no pair is wrong.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        error, of_truth, of_prediction = adapted_rand_error(table=foreground.matrix())
    whole = [float(np.nan_to_num(part, nan=1.0)) for part in (of_prediction, of_truth)]
    return float(np.nan_to_num(error, nan=0.0)), whole[0], whole[1]


def _variation_of_information(foreground: ContingencyTable) -> tuple[float, float]:
    """Return the split and the merge part in bits, by scikit-image."""
    nothing = np.empty(0, np.int64)  # scikit-image 0.25 and 0.26 compare shapes, table or not
    table = foreground.matrix() / foreground.voxels
    split, merge = variation_of_information(nothing, nothing, table=table)
    return max(0.0, float(split)), max(0.0, float(merge))


def _v_rand(foreground: ContingencyTable) -> tuple[float, float, float]:
    """Return V-Rand and its split and merge part (Arganda-Carreras et al. 2015).

    ``Σ n_ij² / (Σ s_j² / 2 + Σ t_i² / 2)``, split ``Σ n_ij² / Σ t_i²``, merge
    ``Σ n_ij² / Σ s_j²``: all pairs of voxels, also a voxel with itself.
    """
    joint, truth, predicted, alone = _counts(foreground)
    both, of_truth, of_prediction = (
        float(np.square(joint).sum() + alone),
        float(np.square(truth).sum()),
        float(np.square(predicted).sum() + alone),
    )
    return 2 * both / (of_truth + of_prediction), both / of_truth, both / of_prediction


def _v_info(foreground: ContingencyTable) -> tuple[float, float, float]:
    """Return V-Info and its split and merge part (Arganda-Carreras et al. 2015).

    ``I(S; T) / (H(S) / 2 + H(T) / 2)``, split ``I / H(S)``, merge ``I / H(T)``. 0 / 0 (a single
    segment in both) is 1.
    """
    joint, truth, predicted, alone = _counts(foreground)
    voxels = foreground.voxels
    apart = alone / voxels * float(np.log2(voxels))
    of_both = _entropy(joint / voxels) + apart
    of_truth = _entropy(truth / voxels)
    of_prediction = _entropy(predicted / voxels) + apart
    shared = max(0.0, of_truth + of_prediction - of_both)
    return (
        _ratio(2 * shared, of_truth + of_prediction),
        _ratio(shared, of_prediction),
        _ratio(shared, of_truth),
    )


def _counts(
    foreground: ContingencyTable,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], int]:
    """Return n_ij, t_i, s_j, and the number of voxels without a predicted object."""
    objects = foreground.objects()
    return (
        objects.counts.astype(np.float64),
        foreground.truth_sizes[1].astype(np.float64),
        objects.predicted_sizes[1].astype(np.float64),
        foreground.voxels - objects.voxels,
    )


def _entropy(parts: NDArray[np.float64]) -> float:
    """Return the entropy in bits."""
    return float(-(parts * np.log2(parts)).sum())


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 1.0
