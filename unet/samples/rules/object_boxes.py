"""Objects of a box of labels one by one, each in the box that it fills."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .rule import Ids, Integers, Mask

Numbers: TypeAlias = NDArray[np.int32]


def images_of(stored: Ids, *, dims: int) -> Iterator[tuple[Integers, Mask]]:
    """Yield ids and which are unknown of the volume or, for dims 2, of each slice."""
    unknown = ~stored.known
    if dims == 3:
        yield stored.ids, unknown
    else:
        yield from zip(stored.ids, unknown, strict=True)


def steps_of(spacing: Sequence[float]) -> tuple[float, ...]:
    """Return the size of a voxel per axis, in units of the finest."""
    return tuple(size / min(spacing) for size in spacing)


def numbered(ids: Integers) -> Numbers:
    """Return the ids as 1, 2, 3 …, in their order; 0 stays 0."""
    values, numbers = np.unique(ids, return_inverse=True)
    first = int(bool(values.size) and values[0] != 0)
    return (numbers.reshape(ids.shape) + first).astype(np.int32)


def object_boxes(numbers: Numbers, *, margin: int) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Yield each object's number and its box, larger by a margin where the array is."""
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        if box is not None:
            yield number, tuple(slice(max(0, s.start - margin), s.stop + margin) for s in box)
