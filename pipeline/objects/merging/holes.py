"""Holes: background that does not reach the volume's edge and touches exactly one object.

Background is labelled as components connected through faces, merged across blocks as objects are.
With the components goes which objects they touch: the lowest and the highest name, which add up by
minimum and maximum. Where both are one name in the end, the component is a hole of that object.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...base.compiled import compiled
from ..definition.method import Method
from ..fragments.joining import Array
from ..fragments.measures import Records

NOTHING: Final = 2**64 - 1
"""``touched_first`` of background that touches no object."""


def background_method(method: Method) -> Method:
    """Return the definition by which background is connected."""
    return Method(role="foreground", threshold=1, connectivity=6, per_slice=method.per_slice)


def with_touched(
    records: Records,
    labels: NDArray[np.int32],
    names_with_halo: NDArray[np.uint64],
    *,
    per_slice: bool,
) -> Records:
    """Return the records of background with the objects that it touches through faces.

    labels: of the background in a block (z, y, x). names_with_halo: names of objects, 0 for
    background, with one voxel around the block, 0 beyond the volume. per_slice: whether the slices
    above and below are other images.
    """
    first, last = _touched(labels, names_with_halo, len(records), per_slice)
    return replace(records, touched_first=first, touched_last=last)


def filled_names(records: Records) -> NDArray[np.uint64]:
    """Return the name of the object that each component of background is a hole of, else 0."""
    is_hole = ~records.at_edge & (records.touched_first == records.touched_last)
    return np.where(is_hole, records.touched_first, np.uint64(0))


@compiled
def _touched(labels: Array, names: Array, count: int, per_slice: bool) -> tuple[Array, Array]:
    first = np.full(count, np.uint64(NOTHING))
    last = np.zeros(count, np.uint64)
    depth, height, width = labels.shape
    away = 0 if per_slice else 1  # to the slices above and below
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                label = labels[z, y, x]
                if label == 0:
                    continue
                for name in (
                    names[z + 1 - away, y + 1, x + 1], names[z + 1 + away, y + 1, x + 1],
                    names[z + 1, y, x + 1], names[z + 1, y + 2, x + 1],
                    names[z + 1, y + 1, x], names[z + 1, y + 1, x + 2],
                ):  # fmt: skip
                    if name:
                        first[label - 1] = min(first[label - 1], name)
                        last[label - 1] = max(last[label - 1], name)
    return first, last
