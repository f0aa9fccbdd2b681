"""Which classes occur in the labels that are trained on: a network learns no other ones."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

from pipeline.base.errors import LabelError
from pipeline.base.geometry import Box

from ..recipe.training_config import Recipe
from ..samples.label_meaning import painted_classes
from ..samples.sampling import Survey
from .volumes import TrainingVolume


def check_classes_occur(
    boxes: Sequence[TrainingVolume],
    surveys: Sequence[Survey],
    recipe: Recipe,
    *,
    held_out: Sequence[Survey] = (),
    has_learned: bool = False,
) -> None:
    """Refuse labels that were surveyed completely and are all of one class, or lack a class.

    held_out: of the labels that are validated. has_learned: whether the network has learned its
    classes before; then labels may lack some.
    Raises LabelError.
    """
    voxels = sum(math.prod(box.shape_zyx) for box in boxes)
    seen = sum(Box(cell.start, cell.stop).voxels for one in surveys for cell in one.cells)
    if seen != voxels:
        return
    present = [number for number, count in enumerate(_counts(surveys)) if count]
    if len(present) == 1:
        is_painted = any(painted_classes(box) for box in boxes)
        advice = "paint some voxels of others" if is_painted else "check the labels and --rule"
        raise LabelError(
            f"all labels are of class {present[0]}: expected at least two classes; {advice}"
        )
    missing = dict(_missing(surveys, recipe))
    if recipe.labels.ignore is not None:
        missing.pop(recipe.labels.ignore, None)
    if missing and not has_learned:
        lacking = dict(_missing(held_out, recipe)) if held_out else missing
        raise _missing_class(missing, set(missing) - set(lacking))


def _missing_class(missing: Mapping[int, str], held_out: Collection[int]) -> LabelError:
    """Return the error for classes that are missing. held_out: those that are validated alone."""
    if held_out:
        return LabelError(
            f"{missing[min(held_out)]} occurs in what is held out for validation alone, so the "
            "network cannot learn it: label some voxels of it elsewhere, or hold out others"
        )
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    return LabelError(
        f"{missing[min(missing)]}{more} does not occur in the labels, so the network cannot learn "
        "it: label some voxels of it, or number the classes that occur 0, 1, 2 … and leave it out"
    )


def missing_class_notes(surveys: Sequence[Survey], recipe: Recipe) -> Iterator[str]:
    """Yield a line for each class of the network that was not found in the labels."""
    for _, named in _missing(surveys, recipe):
        yield f"{named} does not occur in the labels surveyed: the network does not learn it"


def _missing(surveys: Sequence[Survey], recipe: Recipe) -> Iterator[tuple[int, str]]:
    """Yield number and name of each class that was not found, where labels are classes."""
    if recipe.labels.rule == "classes":
        for number, (count, name) in enumerate(
            zip(_counts(surveys), recipe.class_names or (), strict=False)
        ):
            if not count:
                yield number, f"class {number} {name!r}"


def _counts(surveys: Sequence[Survey]) -> list[int]:
    return [sum(of_class) for of_class in zip(*(one.counts for one in surveys), strict=True)]
