"""Which boxes of painted labels (overtile corrections) can be learnt from: those with a voxel.

Held-out slices cut a volume into parts, and a person paints in few of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence, Sized
from typing import Final

from ..base.errors import LabelError, TrainingError
from ..base.geometry import Box
from .labelled import LabelledBox
from .volume import VolumeSource, read_box

LARGEST_READ: Final = (64, 512, 512)


def with_painted(boxes: Sequence[LabelledBox]) -> list[LabelledBox]:
    """Return the boxes without those of painted labels that hold no painted voxel.

    Raises LabelError for painted labels of which no box is left.
    """
    left = [box for box in boxes if not box.painted_classes or is_painted(box.labels, _own(box))]
    for box in boxes:
        if box.painted_classes and all(box.labels != one.labels for one in left):
            raise LabelError(
                f"nothing is painted in {box.labels.location}, outside of validation slices: paint "
                "some voxels first, or leave these labels out"
            )
    return left


def without_painted(boxes: Sequence[LabelledBox], *, keeps: Sized) -> list[LabelledBox]:
    """Return held-out boxes without those of painted labels: errors alone are not typical.

    keeps: what is validated besides them. Raises TrainingError if nothing is left to validate.
    """
    left = [box for box in boxes if not box.painted_classes]
    if boxes and not left and not keeps:
        raise TrainingError(
            "validation slices hold corrections alone, from which no score is computed: pass the "
            "labels of the volume too, or train without validation"
        )
    return left


def _own(box: LabelledBox) -> Box:
    """Return the box in voxels of its labels."""
    return box.labelled.relative_to(box.labels_start)


def is_painted(labels: VolumeSource, box: Box) -> bool:
    """Return whether a box of painted labels has a voxel whose class is known."""
    return any((read_box(labels, part) >= 0).any() for part in _parts(box, labels))


def _parts(box: Box, labels: VolumeSource) -> Iterator[Box]:
    """Yield boxes of whole chunks, so that each chunk is read once."""
    steps = [max(c, most // c * c) for c, most in zip(labels.chunk_shape_zyx, LARGEST_READ,
                                                      strict=True)]  # fmt: skip
    starts = (
        range(a // step * step, b, step)
        for a, b, step in zip(box.start, box.stop, steps, strict=True)
    )
    for start in itertools.product(*starts):
        yield Box(start, tuple(a + s for a, s in zip(start, steps, strict=True))).clipped_to(box)
