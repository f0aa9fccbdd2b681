"""Mirror padding: reads a box as if the volume continued, mirrored, without end.

The border voxel is not repeated (numpy's ``reflect``), as in Ronneberger et al. 2015, fig. 2::

    volume        a b c d
    mirrored  c b a b c d c b a b c ...

Only voxels that the box touches are read. An axis of one voxel repeats it.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..base.geometry import Box


class ReadsBoxes(Protocol):
    """Reads a box of (z, y, x) voxels inside a volume, as (c, z, y, x)."""

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Size of the whole volume in voxels."""

    def read(self, box: Box) -> NDArray[Any]:
        """Return the voxels of ``box`` with axes (c, z, y, x); the box lies inside the volume."""


def mirror_index(start: int, stop: int, size: int) -> NDArray[np.intp]:
    """Return, for each position from ``start`` to ``stop``, the voxel that it mirrors.

    Positions may lie at any distance outside ``0 .. size``: reflections repeat, as in numpy.

    >>> mirror_index(-2, 6, 4).tolist()
    [2, 1, 0, 1, 2, 3, 2, 1]
    """
    if size == 1:
        return np.zeros(stop - start, dtype=np.intp)
    period = 2 * (size - 1)
    position = np.arange(start, stop, dtype=np.intp) % period
    return np.minimum(position, period - position)


def take_mirrored(array: NDArray[Any], index_per_axis: list[NDArray[np.intp]]) -> NDArray[Any]:
    """Return ``array`` with its last axes indexed by ``index_per_axis``, copying only if needed."""
    first = array.ndim - len(index_per_axis)
    for axis, index in enumerate(index_per_axis, start=first):
        if len(index) != array.shape[axis] or not np.array_equal(index, np.arange(len(index))):
            array = np.take(array, index, axis=axis)
    return array


def read_mirrored(volume: ReadsBoxes, box: Box) -> NDArray[Any]:
    """Return the voxels of ``box``, mirrored where it reaches past the volume's edge.

    box: (z, y, x), anywhere. Returns (c, z, y, x) in the volume's own dtype, of the box's shape.
    """
    index = [
        mirror_index(a, b, size)
        for a, b, size in zip(box.start, box.stop, volume.shape_zyx, strict=True)
    ]
    touched = Box(
        tuple(int(i.min()) for i in index),
        tuple(int(i.max()) + 1 for i in index),
    )
    return take_mirrored(
        volume.read(touched), [i - a for i, a in zip(index, touched.start, strict=True)]
    )
