"""An evaluation as tables: aligned lines for a terminal, Markdown for Prefect's UI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pipeline.base.text import shape_text
from pipeline.evaluation.confusion import ConfusionMatrix
from pipeline.evaluation.result import BEST_OF, Evaluation, Layer, present_classes
from pipeline.report.score_section import FigureTable, ScoreSection

_NAMES = {
    "adapted_rand_error": "adapted Rand error",
    "voi": "VOI (bits)",
    "v_rand": "V-Rand",
    "v_info": "V-Info",
}
OF_CLASSES = {"IoU": "iou", "Dice": "dice", "precision": "precision", "recall": "recall"}
"""Columns of the tables of classes, and the figures of a ConfusionMatrix that they show."""
_HOW = {
    "ids": "ids as stored",
    "components": "connected components",
    "watershed": "boundary-seeded watershed",
}
_OVERLAP: Final = (
    "IoU and Dice compare the voxels of a class in result and truth: 1 is equal, 0 is apart. "
    "Precision is the share of the predicted voxels that are right, recall the share of the true "
    "ones that were found."
)
_FOUND: Final = (
    "An object counts as found where it matches a true one at least as well as the IoU. Precision: "
    "share of the predicted objects that are right; recall: share of the true ones that were "
    "found; F1 is their mean: 1 is all of them."
)
_OBJECTS: Final = (
    "The adapted Rand error and VOI are 0 for equal objects; V-Rand and V-Info are 1. Split counts "
    "true objects that were cut, merge those that were joined."
)


def evaluation_text(evaluation: Evaluation) -> str:
    """Return every table as aligned lines."""
    lines = [summary(evaluation), *(f"note: {note}" for note in evaluation.notes)]
    for table in figure_tables(evaluation):
        lines += ["", *table.lines()]
    return "\n".join(lines)


def evaluation_markdown(evaluation: Evaluation) -> str:
    """Return every table as markdown."""
    lines = [summary(evaluation), "", *(f"- note: {note}" for note in evaluation.notes), ""]
    for table in figure_tables(evaluation):
        lines += table.markdown()
    return "\n".join(lines)


def score_section(evaluation: Evaluation) -> ScoreSection:
    """Return the evaluation as a report shows it."""
    request = evaluation.plan.request
    what = "classes" if request.scores is None else f"scores of {evaluation.plan.score_name}"
    if request.objects is not None:
        what = "objects"
    return ScoreSection(
        summary=f"{what[0].upper()}{what[1:]} of {request.prediction} against {request.truth}: "
        f"{summary(evaluation)}.",
        notes=evaluation.notes,
        tables=tuple(figure_tables(evaluation))[::-1],
    )


def summary(evaluation: Evaluation) -> str:
    """Return the compared box and the number of voxels in one line."""
    box = evaluation.box
    where = "" if not any(box.start) else f" from {','.join(map(str, box.start))}"
    return f"{shape_text(box.shape)} voxels{where}, {evaluation.voxels:,} of them counted"


def figure_tables(evaluation: Evaluation) -> Iterator[FigureTable]:
    """Yield the tables of all available figures, the most important last."""
    if len(evaluation.layers) > 1:
        yield _thresholds(evaluation)
    if evaluation.classes is not None:
        yield _classes(evaluation, evaluation.classes)
    if evaluation.pixels is not None:
        yield _pixels(evaluation, evaluation.pixels)
    if evaluation.objects is not None:
        yield _matches(evaluation.objects)
        yield _objects(evaluation, evaluation.objects)


def _classes(evaluation: Evaluation, matrix: ConfusionMatrix) -> FigureTable:
    rows = [
        (f"{number} {evaluation.class_name(number)}", *_of_class(matrix, number),
         f"{matrix.truth_voxels[number]:,}")
        for number in present_classes(matrix)
    ]  # fmt: skip
    return FigureTable(
        title=f"classes: pixel error {matrix.pixel_error:.4f}, mean IoU {matrix.mean_iou:.4f}",
        header=("class", *OF_CLASSES, "true voxels"),
        rows=tuple(rows),
        note=_OVERLAP,
    )


def _pixels(evaluation: Evaluation, layer: Layer) -> FigureTable:
    matrix = layer.pixels
    assert matrix is not None
    return FigureTable(
        title=f"{evaluation.plan.score_name} where score >= {layer.threshold:g}, the best "
        f"threshold: pixel error {matrix.pixel_error:.4f}",
        header=("class", *OF_CLASSES),
        rows=((evaluation.plan.score_name, *_of_class(matrix, 1)),),
        note=_OVERLAP,
    )


def _of_class(matrix: ConfusionMatrix, number: int) -> tuple[str, ...]:
    return tuple(f"{getattr(matrix, name)[number]:.4f}" for name in OF_CLASSES.values())


def _objects(evaluation: Evaluation, layer: Layer) -> FigureTable:
    figures = layer.objects
    assert figures is not None
    assert evaluation.plan.request.objects is not None
    parts = {
        "adapted_rand_error": ("precision", figures.rand_precision, figures.rand_recall),
        "voi": ("split", figures.voi_split, figures.voi_merge),
        "v_rand": ("split", figures.v_rand_split, figures.v_rand_merge),
        "v_info": ("split", figures.v_info_split, figures.v_info_merge),
    }
    rows = [
        ("objects", f"{figures.predicted_objects:,}", f"true {figures.truth_objects:,}", "", "")
    ]
    for name, (first, one, other) in parts.items():
        second = "recall" if first == "precision" else "merge"
        best = evaluation.best(BEST_OF[name])
        assert best is not None
        rows.append(
            (_NAMES[name], f"{getattr(figures, name):.4f}", f"{first} {one:.4f}",
             f"{second} {other:.4f}", _best(name, best))
        )  # fmt: skip
    return FigureTable(
        title=_objects_title(evaluation, layer),
        header=("", "", "", "", "" if layer.threshold is None else "at its own best threshold"),
        rows=tuple(rows),
        note=_OBJECTS,
    )


def _objects_title(evaluation: Evaluation, layer: Layer) -> str:
    request = evaluation.plan.request
    assert request.objects is not None
    how = _HOW[request.objects] + (" of each slice" if request.per_slice else "")
    at = "" if layer.threshold is None else f", boundary score < {layer.threshold:g}"
    mean = f"; means over {len(layer.slices)} slices" if request.per_slice else ""
    return f"objects: {how}{at}{mean}"


def _best(name: str, layer: Layer) -> str:
    if layer.threshold is None:
        return ""
    return f"{getattr(layer.objects, name):.4f} at {layer.threshold:g}"


def _matches(layer: Layer) -> FigureTable:
    assert layer.objects is not None
    matches = layer.objects.matches
    return FigureTable(
        title="objects found, by minimum IoU",
        header=("IoU", *(f"{match.iou:.2f}" for match in matches)),
        rows=(
            ("precision", *(f"{match.precision:.3f}" for match in matches)),
            ("recall", *(f"{match.recall:.3f}" for match in matches)),
            ("F1", *(f"{match.f1:.3f}" for match in matches)),
        ),
        note=_FOUND,
    )


def _thresholds(evaluation: Evaluation) -> FigureTable:
    """Return one row per threshold, with the available figures."""
    columns = []
    if evaluation.pixels is not None:
        columns.append("pixel error")
    if evaluation.objects is not None:
        columns += ["Rand error", "VOI split", "VOI merge", "V-Rand", "V-Info"]
    rows = []
    for layer in evaluation.layers:
        figures: list[float] = []
        if layer.pixels is not None:
            figures.append(layer.pixels.pixel_error)
        if (one := layer.objects) is not None:
            figures += [
                one.adapted_rand_error, one.voi_split, one.voi_merge, one.v_rand, one.v_info,
            ]  # fmt: skip
        rows.append((f"{layer.threshold:g}", *(f"{figure:.4f}" for figure in figures)))
    return FigureTable(
        title="by threshold of the score",
        header=("threshold", *columns),
        rows=tuple(rows),
        is_detail=True,
    )
