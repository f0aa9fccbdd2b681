"""Which voxels are neighbours: offsets in raster order, the same for every block."""

from __future__ import annotations

import itertools
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from ...base.errors import PlanError

Connectivity: TypeAlias = Literal[4, 6, 8, 18, 26]

_AXES_AT_MOST: Final[dict[int, int]] = {4: 1, 6: 1, 8: 2, 18: 2, 26: 3}


def neighbour_offsets(connectivity: int, *, per_slice: bool) -> NDArray[np.int64]:
    """Return the offsets (neighbours, 3) of a voxel's neighbours, in raster order of z, y, x.

    6, 18 and 26 neighbours share a face, an edge or a corner with the voxel. per_slice: neighbours
    lie in the same z only, where 4 and 6 mean 4, and 8, 18 and 26 mean 8. The offset at position
    ``k`` and that at the same position from the end are opposite.
    Raises PlanError for another number, and for 4 and 8 in three dimensions.
    """
    if connectivity not in get_args(Connectivity) or (not per_slice and connectivity in (4, 8)):
        allowed = "4 or 8 (or 6, 18, 26)" if per_slice else "6, 18 or 26"
        raise PlanError(f"connectivity {connectivity}: expected {allowed}")
    most = _AXES_AT_MOST[connectivity]
    steps = itertools.product((-1, 0, 1), repeat=3)
    offsets = [
        step for step in steps if 1 <= sum(map(abs, step)) <= most and not (per_slice and step[0])
    ]
    return np.array(offsets, np.int64)
