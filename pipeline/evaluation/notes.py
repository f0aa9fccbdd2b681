"""What a reader of the figures must know, and what the options may have meant: one line each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from ..objects.definition.find_scores import role_of
from .border_contrast import CLEAR, BorderContrast
from .confusion import ConfusionMatrix
from .contingency import NEVER_PREDICTED_AT_MOST, too_many_labels
from .plan import EvaluatePlan
from .tasks import VoxelCounts

MOST_WRONG = 0.5
"""From this share of wrong voxels on, two classes may have been exchanged."""


def notes_of(
    plan: EvaluatePlan,
    classes: ConfusionMatrix | None,
    *,
    true_ids: frozenset[int],
    voxels: VoxelCounts | None = None,
    contrast: BorderContrast | None = None,
) -> Iterator[str]:
    """Yield all notes. true_ids: of true objects, two or fewer. Raises LabelError.

    contrast: of scores that are used as a boundary between objects.
    """
    yield from planned_notes(plan)
    is_one_id = plan.request.truth_objects == "ids" and len(true_ids) == 1
    yield from boundary_notes(plan, None if is_one_id else contrast)  # it may be a class
    yield from threshold_notes(plan)
    if classes is not None:
        yield from class_notes(classes, plan.class_names)
    if plan.request.objects is None and voxels is not None:
        yield from score_notes(plan, voxels)
    if plan.request.truth_objects == "ids":
        yield from id_notes(true_ids, per_slice=plan.request.per_slice)


def planned_notes(plan: EvaluatePlan) -> Iterator[str]:
    """Yield what metadata says about the comparison.

    The prediction's own notes are left out where overtile wrote it: it stores no chunk of zeros.
    """
    yield from (f"{plan.request.truth}: {note}" for note in plan.truth.notes)
    if not plan.made_by:
        predicted = [one.notes for one in (plan.classes, plan.scores) if one is not None]
        notes = dict.fromkeys(itertools.chain(*predicted))
        yield from (f"{plan.request.prediction}: {note}" for note in notes)
    if plan.placement.note:
        yield plan.placement.note
    if plan.is_of_a_part:
        yield (
            "only a part of the volume was segmented: voxels outside of it count as predicted "
            "background; compare a box that was segmented, with --box"
        )


def boundary_notes(plan: EvaluatePlan, contrast: BorderContrast | None) -> Iterator[str]:
    """Yield that the score of the boundary between objects is probably that of the objects.

    The voxels decide where they are clear, else the name of the class does.
    """
    if plan.scores is None or plan.request.objects is None:
        return
    objects = (
        "; if objects consist of it, find them with overtile objects, and score them with "
        "--objects ids"
    )
    name = plan.stated_score_name
    if contrast is not None and contrast.is_of_objects:
        yield (
            f"{name or 'the score'} is taken for the boundary between objects, which lie where "
            f"its score is low, but it is higher inside the true objects ({contrast.inside:.2f} on "
            f"average) than at their borders ({contrast.border:.2f}): choose the boundary with "
            f"--scores{objects}"
        )
    elif name and role_of(name) == "foreground" and not (contrast and contrast.is_of_borders):
        yield (
            f"{name} is taken for the boundary between objects, which lie where its score is low"
            f"{objects}"
        )


def score_notes(plan: EvaluatePlan, voxels: VoxelCounts) -> Iterator[str]:
    """Yield that a score is higher where the truth does not have its class."""
    if voxels.scores is None:
        return
    reached = voxels.scores @ np.arange(voxels.scores.shape[1])
    elsewhere, there = reached / np.maximum(1, voxels.scores.sum(axis=1))
    if elsewhere > there + CLEAR * (voxels.scores.shape[1] - 1):
        yield (
            f"the scores of {plan.score_name} are higher where the truth does not have it than "
            "where it has it: choose the other class with --scores, or compare what the labels of "
            "the truth mean"
        )


def threshold_notes(plan: EvaluatePlan) -> Iterator[str]:
    """Yield that a threshold was chosen on the voxels that it is scored on."""
    if len(plan.layers) > 1:
        yield (
            "the best threshold was chosen on the voxels that are scored, so its figures are too "
            "good: choose it on other slices, and pass it with --thresholds"
        )


def class_notes(matrix: ConfusionMatrix, names: tuple[str, ...]) -> Iterator[str]:
    """Yield what is wrong with the classes as a whole: exchanged, one alone, or unknown labels.

    names: of the prediction's classes. Raises LabelError where they are too many for classes.
    """
    both = zip(matrix.truth_voxels, matrix.predicted_voxels, strict=True)
    if _are_exchanged(matrix):
        yield (
            f"{matrix.pixel_error:.0%} of the voxels have the other one of two classes: classes 0 "
            "and 1 of the truth may mean 1 and 0 of the prediction"
        )
    never = [label for label, (true, predicted) in enumerate(both) if true and not predicted]
    found = [label for label, voxels in enumerate(matrix.predicted_voxels) if voxels]
    if len(found) == 1 and sum(map(bool, matrix.truth_voxels)) > 1:
        name = names[found[0]] if found[0] < len(names) else str(found[0])
        yield (
            f"every voxel has class {name} in the prediction: the network finds nothing else in "
            "this image, because of a short training or other images in it"
        )
    if len(never) > NEVER_PREDICTED_AT_MOST:
        raise too_many_labels(never)
    unknown = [label for label in never if label >= max(len(names), 2)]
    if _is_mask(matrix, unknown):
        yield (
            f"the truth has the values 0 and {unknown[0]} only, as a mask has, but classes are "
            f"compared by their numbers: divide the truth by {unknown[0]} if it marks class 1"
        )
    elif unknown:
        yield (
            f"the prediction never has label {', '.join(map(str, unknown))} of the truth: leave "
            "one out with --ignore, or pass --objects if they are ids of objects"
        )


def _is_mask(matrix: ConfusionMatrix, unknown: list[int]) -> bool:
    """Return whether the truth has only 0 and a label that the prediction's classes lack."""
    there = [label for label, voxels in enumerate(matrix.truth_voxels) if voxels]
    return len(unknown) == 1 and there == [0, *unknown]


def _are_exchanged(matrix: ConfusionMatrix) -> bool:
    """Return whether two classes, which both have, agree better the other way round."""
    both = zip(matrix.truth_voxels, matrix.predicted_voxels, strict=True)
    has_both = [bool(true and predicted) for true, predicted in both]
    return has_both == [True, True] and matrix.pixel_error > MOST_WRONG


def id_notes(ids: frozenset[int], *, per_slice: bool) -> Iterator[str]:
    """Yield that the truth has a single id. ids: some of the truth's, without 0."""
    if len(ids) == 1:
        (one,) = ids
        each = " in every slice" if per_slice else ""
        yield (
            f"the truth has the values 0 and {one} only, read as one object{each}: if they are "
            f"classes, pass --truth-objects {one}, whose connected parts are then the objects"
        )
