"""What is trained on and what is held out: boxes of volumes that share no voxel.

Held-out slices cut a volume into parts. A box lies in one part, and the context of a training box
ends with it. Held-out boxes have the whole volume around them, as in a segmentation: a 3-D network
would see few slices mirrored over and over instead::

    volume     |----------|=====|--------------|       = held out
    labels          |------------------|
    boxes           |-----|=====|------|
    contexts   |----------|     |--------------|       of training boxes: mirrored at these ends
               |---------------=---------------|       of held-out boxes

A held-out volume of the same image cuts the context along the axis that leaves the most of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

from ..base.errors import TrainingError
from ..base.geometry import Box
from .label_placement import PlacedLabels
from .labelled import LabelledBox


def split(
    pairs: Sequence[PlacedLabels], slices: tuple[int, int] | None
) -> tuple[list[LabelledBox], list[LabelledBox]]:
    """Return the boxes to train on, and those in the held-out slices.

    slices: the first one and the one after the last, of every volume. Raises TrainingError for
    slices that a volume does not have, or that leave nothing to train or to validate on.
    """
    if slices is None:
        return [whole(placed) for placed in pairs], []
    first, last = slices
    training: list[LabelledBox] = []
    validation: list[LabelledBox] = []
    for placed in pairs:
        depth, *plane = placed.raw.shape_zyx
        if not 0 <= first < last <= depth:
            raise TrainingError(
                f"validation slices {first}:{last} of {placed.raw.store}, which has {depth}: "
                f"expected A:B with A below B, inside 0:{depth}"
            )
        volume = Box.of_shape((depth, *plane))
        parts = ((0, first, training), (first, last, validation), (last, depth, training))
        for a, b, boxes in parts:
            part = Box((a, 0, 0), (b, *plane))
            box = _box_in(placed, part, context=part if boxes is training else volume)
            if box is not None:
                boxes.append(box)
    if not training:
        raise TrainingError(f"validation slices {first}:{last} leave nothing to train on")
    if not validation:
        covered = pairs[0].box
        raise TrainingError(
            f"validation slices {first}:{last} have no labels: those of {pairs[0].labels.location} "
            f"cover slices {covered.start[0]}:{covered.stop[0]} of the volume; choose slices among "
            "them"
        )
    return training, validation


def whole(placed: PlacedLabels) -> LabelledBox:
    """Return the box of all labels, with the rest of the volume as context."""
    volume = Box.of_shape(placed.raw.shape_zyx)
    box = _box_in(placed, volume, context=volume)
    assert box is not None, "labels without a voxel in the volume are refused before"
    return box


def kept_apart(
    training: Sequence[LabelledBox], validation: Sequence[LabelledBox]
) -> list[LabelledBox]:
    """Return the training boxes with contexts that end before the validation boxes of a volume."""
    return [_apart(box, validation) for box in training]


def grown(box: LabelledBox, least: Sequence[int]) -> LabelledBox:
    """Return a box in which patches of a size fit, as far as its context reaches.

    least: voxels (z, y, x). What the box gains is unknown, as all that lies beside the labels.
    """
    reach = box.reach
    start, stop = [], []
    ends = zip(box.box.start, box.box.stop, reach.start, reach.stop, least, strict=True)
    for a, b, low, high, size in ends:
        wide = max(size, b - a)
        first = max(low, min(a - (wide - (b - a)) // 2, high - wide))
        start.append(first)
        stop.append(min(high, first + wide))
    return _in_context(box, Box(tuple(start), tuple(stop)), reach)


def overlap_notes(
    training: Sequence[LabelledBox], validation: Sequence[LabelledBox]
) -> Iterator[str]:
    """Yield a line for labels of one volume that overlap, per volume."""
    both = [(a, b) for a, b in combinations(training, 2) if _common_voxels(a, b)]
    for raw in dict.fromkeys(a.raw for a, _ in both):
        pairs = [(a.labels.location, b.labels.location) for a, b in both if a.raw == raw]
        more = f" (and {len(pairs) - 1} more pairs)" if len(pairs) > 1 else ""
        yield (
            f"labels {pairs[0][0]} and {pairs[0][1]}{more} of {raw.location} overlap: voxels "
            "that are labelled in both are learned from both"
        )
    for held_out in validation:
        common = sum(_common_voxels(held_out, box) for box in training)
        if common:
            voxels = held_out.labelled.voxels
            yield (
                f"validation on {held_out.name} shares {min(common, voxels):,} of "
                f"{voxels:,} voxels with the training: its scores are too good"
            )


def _box_in(placed: PlacedLabels, part: Box, *, context: Box) -> LabelledBox | None:
    """Return the labelled box in a part of the volume; None if nothing is labelled there."""
    box = placed.box.clipped_to(part)
    if not box.voxels:
        return None
    return LabelledBox(
        raw=placed.raw,
        labels=placed.labels,
        labels_start=placed.start,
        box=box,
        context=None if box == context else context,
    )


def _apart(box: LabelledBox, held_out: Sequence[LabelledBox]) -> LabelledBox:
    context = box.reach
    for other in held_out:
        if other.raw == box.raw and not _common_voxels(other, box):
            context = _without(context, other.labelled, keep=box.labelled)
    return _in_context(box, box.box.clipped_to(context), context)


def _in_context(box: LabelledBox, part: Box, context: Box) -> LabelledBox:
    return replace(box, box=part, context=None if context == part else context)


def _without(context: Box, held_out: Box, *, keep: Box) -> Box:
    """Return the largest part of a context that contains ``keep`` and ends before ``held_out``."""
    if not context.clipped_to(held_out).voxels:
        return context
    parts = []
    for axis in range(len(keep.start)):
        if held_out.stop[axis] <= keep.start[axis]:
            parts.append(Box(_with(context.start, axis, held_out.stop[axis]), context.stop))
        if keep.stop[axis] <= held_out.start[axis]:
            parts.append(Box(context.start, _with(context.stop, axis, held_out.start[axis])))
    return max(parts, key=lambda part: part.voxels)


def _with(place: tuple[int, ...], axis: int, value: int) -> tuple[int, ...]:
    return (*place[:axis], value, *place[axis + 1 :])


def _common_voxels(one: LabelledBox, other: LabelledBox) -> int:
    """Return how many labelled voxels of the same volume two boxes share."""
    return one.labelled.clipped_to(other.labelled).voxels if one.raw == other.raw else 0
