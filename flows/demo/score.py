"""Scores of the demo's segmentation and of its cells, against the truth that the scene gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from pipeline.evaluation.confusion import ConfusionMatrix, confusion
from pipeline.evaluation.contingency import RunningTotal, count_pairs
from pipeline.evaluation.object_metrics import ObjectFigures, object_figures
from pipeline.report.report import Table
from pipeline.volume.measure_intensity import boxes_of_share
from pipeline.volume.volume import find_volume, open_volume

SHOWN_IOU = (0.5, 0.75)


def score_classes(prediction: str, truth: str) -> ConfusionMatrix:
    """Return the confusion of classes with their truth, read box by box."""
    score = ConfusionMatrix.empty(classes=2)
    for true, predicted in _pairs(prediction, truth):
        score += confusion(true, predicted, classes=2)
    return score


def score_cells(prediction: str, truth: str) -> ObjectFigures:
    """Return the figures of the cells, all true cells included, read box by box."""
    total = RunningTotal()
    for true, predicted in _pairs(prediction, truth):
        total.add(count_pairs(true, predicted))
    return object_figures(total.table())


def score_text(score: ConfusionMatrix, class_names: tuple[str, ...], cells: ObjectFigures) -> str:
    """Return the scores as aligned lines."""
    lines = ["score against the known truth:", f"  pixel error    {score.pixel_error:.4f}"]
    for name, iou, dice in zip(class_names, score.iou, score.dice, strict=True):
        lines.append(f"  {name:<14} IoU {iou:.3f}  Dice {dice:.3f}")
    f1 = ", ".join(
        f"F1 {match.f1:.3f} at IoU {match.iou}" for match in cells.matches if match.iou in SHOWN_IOU
    )
    lines.append(
        f"  {'cells':<14} {cells.predicted_objects} found, {cells.truth_objects} in the truth; {f1}"
    )
    return "\n".join(lines)


def score_table(
    score: ConfusionMatrix, class_names: tuple[str, ...], cells: ObjectFigures
) -> Table:
    """Return the scores as a table of the report."""
    rows = [("voxels of a wrong class", f"{score.pixel_error:.1%}")]
    for name, iou, dice in zip(class_names, score.iou, score.dice, strict=True):
        rows.append((name, f"IoU {iou:.3f}, Dice {dice:.3f}"))
    found = f"{cells.predicted_objects} found, {cells.truth_objects} in the truth"
    matches = [match for match in cells.matches if match.iou in SHOWN_IOU]
    rows += [("cells", found), *((f"F1 of cells at IoU {m.iou}", f"{m.f1:.3f}") for m in matches)]
    note = (
        "IoU and Dice compare the voxels of a class with the known truth: 1 is equal, 0 is apart. "
        "F1 counts cells that match a true cell at least as well as the IoU: 1 is all of them."
    )
    return Table(title="Score against the known truth", rows=tuple(rows), note=note)


def _pairs(prediction: str, truth: str) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield truth and prediction (z, y, x) of all boxes."""
    found, known = find_volume(prediction), find_volume(truth)
    predicted, true = open_volume(found), open_volume(known)
    for box in boxes_of_share(found.shape_zyx, found.chunk_shape_zyx, 0, 1):
        yield true.read(box)[0], predicted.read(box)[0]
