"""Objects from the scores of a boundary class, or from classes, for arrays that fit in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..objects.definition.distance import squared_distance
from ..objects.definition.lengths import in_steps
from ..objects.definition.method import HIGHEST
from ..objects.fragments.forest import flood

LABELS_AT_MOST = 2**31 - 1


def components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Return the connected components of ``mask``, numbered from 1 in the order of their voxels.

    Voxels connect through faces: 4 neighbours in 2-D (as the ISBI 2012 challenge counts), 6 in 3-D.
    Returns the labels, 0 outside of ``mask``, and their number.
    """
    assert mask.size <= LABELS_AT_MOST
    labels: Any = np.empty(mask.shape, np.int32)
    count: Any = ndimage.label(mask, output=labels)
    return labels, int(count)


def seeded_watershed(
    boundary: NDArray[np.float32],
    *,
    threshold: float,
    seed_distance: float = 0.0,
    seed_voxels: int = 0,
    spacing: Sequence[float] | None = None,
) -> NDArray[np.int32]:
    """Return objects that meet on the ridges of the boundary score; every voxel gets one.

    ::

        score   ▁▁▁▁▂▅█▅▂▁▁▁▁
        seeds   11111.....222       score < threshold, deeper inside than seed_distance
        objects 1111111222222       flooded from the seeds in the order of the score, rounded to 16
                                    bits, by the kernel of ``overtile objects``

    Seeds are the connected components of those voxels with ``boundary < threshold`` that lie
    further than ``seed_distance`` from any other voxel (Euclidean distance transform; ``spacing``
    is the voxel size per axis, 1 by default), and that have at least ``seed_voxels`` voxels. A
    larger distance separates cells whose boundary has holes. With 0 the objects are the components
    of ``boundary < threshold``, their borders thinned as in the ISBI challenge since 2015
    (Arganda-Carreras et al. 2015). Without seeds all labels are 0.
    """
    shape = (1,) * (3 - boundary.ndim) + boundary.shape
    inside = (boundary < threshold).reshape(shape)
    if seed_distance > 0:
        steps = [in_steps(one) for one in (spacing or (1.0,) * boundary.ndim)]
        limit = in_steps(seed_distance)
        squares = squared_distance(
            inside, spacing=(1,) * (3 - boundary.ndim) + tuple(steps), limit=limit
        )
        inside = squares > limit * limit
    seeds, count = components(inside)
    if seed_voxels > 1:
        sizes = np.bincount(seeds.ravel())
        kept = sizes >= seed_voxels
        kept[0] = False
        numbers: NDArray[np.int32] = (np.cumsum(kept) * kept).astype(np.int32)
        seeds = numbers[seeds]
        count = int(kept.sum())
    if not count:
        return np.zeros(boundary.shape, np.int32)
    heights = np.rint(boundary.reshape(shape) * np.float32(HIGHEST)).astype(np.uint16)
    return flood(heights, seeds).reshape(boundary.shape)
