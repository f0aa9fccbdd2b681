"""What the user should know about the labels before a training starts, a line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..recipe.training_config import Recipe
from ..samples.label_meaning import painted_classes
from ..samples.sampling import Survey
from .occurring_classes import missing_class_notes
from .volumes import TrainingVolume, TrainingVolumes


def label_notes(
    volumes: TrainingVolumes,
    surveys: Sequence[Survey],
    validation_surveys: Sequence[Survey],
    recipe: Recipe,
) -> Iterator[str]:
    """Yield where labels lie, then a line for sparse ones, and one for each class that is missing.

    surveys: those of the boxes that are trained on, and of those that are validated.
    """
    yield from volumes.notes
    boxes = volumes.training
    yield from names_notes(boxes, recipe)
    for box, survey in zip(boxes, surveys, strict=True):
        of = f" of {box.name}" if len(boxes) > 1 else ""
        if not survey.known_voxels:
            yield f"labels{of}: no voxel is known, so nothing is learned from them"
        elif survey.is_sparse:
            yield (
                f"labels{of}: {share_text(survey.known_share)} of the voxels are known; patches "
                "are drawn where they are"
            )
    for box, survey in zip(volumes.validation, validation_surveys, strict=True):
        if not survey.known_voxels:
            yield f"validation on {box.name}: no voxel is known, so no score is computed there"
    yield from missing_class_notes(surveys, recipe)


def names_notes(boxes: Sequence[TrainingVolume], recipe: Recipe) -> Iterator[str]:
    """Yield a line for each volume whose painted classes have other names than the network's."""
    learned = recipe.class_names or ()
    for box in boxes:
        painted = painted_classes(box)
        if painted and painted != learned:
            pairs = ", ".join(f"{a} as {b}" for a, b in zip(painted, learned, strict=True))
            yield (
                f"labels of {box.name} were painted for classes of other names: learned are {pairs}"
            )


def share_text(share: float) -> str:
    """Return a share as text, with two digits below 1 %.

    >>> [share_text(share) for share in (0.0416, 0.00123, 0.5)]
    ['4 %', '0.12 %', '50 %']
    """
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.2g} %"
