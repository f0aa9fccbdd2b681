"""Precision and recall of objects at a minimum intersection over union (IoU).

An object is found if a predicted object has an IoU of at least t with it, one to one. Above t = 0.5
no object can have two partners; at exactly 0.5 it can, and the largest matching is used (scipy's
Hopcroft and Karp 1973). Sizes are those of whole objects: voxels where the other labelling is
background (id 0) count too, except ignored ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from .contingency import ContingencyTable

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""0.5, 0.55 … 0.95."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Objects found at an IoU of at least ``iou``: TP / predicted, TP / true, and their F1.

    ``2 TP / (true + predicted)`` is F1. A ratio 0 / 0 is 1.
    """

    iou: float
    true_positives: int
    precision: float
    recall: float
    f1: float


def match_objects(
    table: ContingencyTable, *, thresholds: tuple[float, ...] = IOU_THRESHOLDS
) -> tuple[Match, ...]:
    """Return the matches at every threshold (from 0.5 on); id 0 is background."""
    truth_ids, truth_sizes = table.truth_sizes
    predicted_ids, predicted_sizes = table.predicted_sizes
    both = table.objects()
    rows = np.searchsorted(truth_ids, both.truth_ids)
    columns = np.searchsorted(predicted_ids, both.predicted_ids)
    iou = both.counts / (truth_sizes[rows] + predicted_sizes[columns] - both.counts)
    true = int(np.count_nonzero(truth_ids))
    predicted = int(np.count_nonzero(predicted_ids))
    found = []
    for threshold in thresholds:
        near = iou >= threshold
        ones = np.ones(int(near.sum()), np.int8)
        graph = csr_array((ones, (rows[near], columns[near])), (len(truth_ids), len(predicted_ids)))
        partners = maximum_bipartite_matching(graph, perm_type="column")
        matched = int(np.count_nonzero(partners >= 0))
        found.append(
            Match(
                iou=threshold,
                true_positives=matched,
                precision=matched / predicted if predicted else float(true == 0),
                recall=matched / true if true else float(predicted == 0),
                f1=2 * matched / (true + predicted) if true + predicted else 1.0,
            )
        )
    return tuple(found)
