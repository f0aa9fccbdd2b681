"""Cleans a mask: closes gaps, removes specks and holes, adds a margin. Distances follow the voxels.

Distances are in voxels of the finest axis; along a coarser axis, fewer voxels are as far.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]


def cleaned(
    mask_zyx: Mask, voxel_size: Sequence[float], *, closing: float, smallest: int, margin: float
) -> Mask:
    """Return the mask with gaps closed, without specks and holes, and grown by the margin.

    smallest: specks and holes of fewer voxels are removed.
    """
    sampling = np.array(voxel_size) / min(voxel_size)
    closed = _grown(mask_zyx, closing, sampling)
    closed = ~_grown(~closed, closing, sampling)
    without_specks = _without_small(closed, smallest)
    if not without_specks.any():  # all of it would be a hole
        return without_specks
    without_holes = ~_without_small(~without_specks, smallest)
    return _grown(without_holes, margin, sampling)


def _grown(mask_zyx: Mask, distance: float, sampling: NDArray[np.float64]) -> Mask:
    """Return the voxels at most ``distance`` from the mask."""
    if not distance or not mask_zyx.any():
        return mask_zyx
    near: Mask = ndimage.distance_transform_edt(~mask_zyx, sampling) <= distance
    return near


def _without_small(mask_zyx: Mask, smallest: int) -> Mask:
    """Return the mask without connected parts (by faces) of fewer than ``smallest`` voxels."""
    parts, _ = ndimage.label(mask_zyx)
    is_kept = np.bincount(parts.ravel()) >= smallest
    is_kept[0] = False
    kept: Mask = is_kept[parts]
    return kept
