"""What a reader of the figures must know, and what the options may have meant: one line each."""

from __future__ import annotations

from collections.abc import Iterator

from ..objects.definition.scores import role_of
from .confusion import ConfusionMatrix
from .contingency import NEVER_PREDICTED_AT_MOST, too_many_labels
from .plan import EvaluatePlan


def notes_of(
    plan: EvaluatePlan, classes: ConfusionMatrix | None, *, true_ids: frozenset[int]
) -> Iterator[str]:
    """Yield all notes. true_ids: of true objects, two or fewer. Raises LabelError."""
    yield from planned_notes(plan)
    yield from threshold_notes(plan)
    if classes is not None:
        yield from class_notes(classes, plan.class_names)
    if plan.request.truth_objects == "ids":
        yield from id_notes(true_ids, per_slice=plan.request.per_slice)


def planned_notes(plan: EvaluatePlan) -> Iterator[str]:
    """Yield what metadata says about the comparison."""
    if plan.placement.note:
        yield plan.placement.note
    if plan.is_of_a_part:
        yield (
            "only a part of the volume was segmented: voxels outside of it count as predicted "
            "background; compare a box that was segmented, with --box"
        )
    name = plan.scores and plan.stated_score_name
    if name and plan.request.objects and role_of(name) == "foreground":
        yield (
            f"{name} is taken for the boundary between objects, which lie where its score is low; "
            "if objects consist of it, find them with overtile objects, and score them with "
            "--objects ids"
        )


def threshold_notes(plan: EvaluatePlan) -> Iterator[str]:
    """Yield that a threshold was chosen on the voxels that it is scored on."""
    if len(plan.layers) > 1:
        yield (
            "the best threshold was chosen on the voxels that are scored, so its figures are too "
            "good: choose it on other slices, and pass it with --thresholds"
        )


def class_notes(matrix: ConfusionMatrix, names: tuple[str, ...]) -> Iterator[str]:
    """Yield labels of the truth that the prediction never has and does not name.

    names: of the prediction's classes. Raises LabelError where they are too many for classes.
    """
    both = zip(matrix.truth_voxels, matrix.predicted_voxels, strict=True)
    never = [label for label, (true, predicted) in enumerate(both) if true and not predicted]
    if len(never) > NEVER_PREDICTED_AT_MOST:
        raise too_many_labels(never)
    unknown = [label for label in never if label >= max(len(names), 2)]
    if unknown:
        yield (
            f"the prediction never has label {', '.join(map(str, unknown))} of the truth: leave "
            "one out with --ignore, or pass --objects if they are ids of objects"
        )


def id_notes(ids: frozenset[int], *, per_slice: bool) -> Iterator[str]:
    """Yield that the truth has a single id. ids: some of the truth's, without 0."""
    if len(ids) == 1:
        (one,) = ids
        each = " in every slice" if per_slice else ""
        yield (
            f"the truth has the values 0 and {one} only, read as one object{each}: if they are "
            f"classes, pass --truth-objects {one}, whose connected parts are then the objects"
        )
