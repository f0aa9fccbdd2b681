"""Which objects are kept: by their size, and by whether they touch the volume's edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..fragments.measures import Records


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Limits of an object's voxels, both included, and what becomes of objects at the edge."""

    min_voxels: int = 1
    max_voxels: int | None = None
    drops_border: bool = False

    def keeps(self, records: Records) -> NDArray[np.bool_]:
        """Return which records are objects that are kept."""
        kept = (records.names > 0) & (records.voxels >= self.min_voxels)
        if self.max_voxels is not None:
            kept &= records.voxels <= self.max_voxels
        if self.drops_border:
            kept &= ~records.at_edge
        return kept
