"""Whether a score that is used as a boundary is high at the borders of true objects: a sample.

::

    true ids    1 1 1 1 2 2 0 0 0 0
    border      . . . b b b b . . .     beside a voxel with another id, background included
    inside      i i i . . . . . . .     of an object, and not at its border
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..base.geometry import Box
from .plan import EvaluatePlan
from .region import EvaluatedRegion, Mask

SAMPLE: Final = (32, 256, 256)
"""Voxels of the middle of what is compared."""
FEWEST: Final = 50
"""Voxels of each kind, or nothing is stated."""
CLEAR: Final = 0.1
"""Difference of two mean scores that is not chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BorderContrast:
    """Mean scores, 0 to 1, inside true objects and at their borders; NaN where there are few."""

    inside: float
    border: float

    @property
    def is_of_objects(self) -> bool:
        """Whether the score is clearly that of the objects, not of what lies between them."""
        return self.inside > self.border + CLEAR

    @property
    def is_of_borders(self) -> bool:
        """Whether the score is clearly that of the borders."""
        return self.border > self.inside + CLEAR


def sampled_box(plan: EvaluatePlan) -> Box:
    """Return the middle of the box that is compared."""
    whole = plan.grid.box
    sizes = [min(size, most) for size, most in zip(whole.shape, SAMPLE, strict=True)]
    start = [a + (n - s) // 2 for a, n, s in zip(whole.start, whole.shape, sizes, strict=True)]
    return Box(tuple(start), tuple(a + s for a, s in zip(start, sizes, strict=True)))


def border_contrast(plan: EvaluatePlan, box: Box) -> BorderContrast:
    """Return the mean scores of a box, for objects of which the score is taken for the boundary."""
    region = EvaluatedRegion(plan, box)
    at_border = _at_border(region, first_axis=1 if plan.request.per_slice else 0)
    inside = region.kept & (region.true_objects != 0) & ~at_border
    return BorderContrast(
        inside=_mean(region, inside), border=_mean(region, region.kept & at_border)
    )


def _at_border(region: EvaluatedRegion, *, first_axis: int) -> Mask:
    """Return which voxels lie beside a voxel with another id."""
    ids = region.true_objects
    found: Mask = np.zeros(ids.shape, np.bool_)
    for axis in range(first_axis, ids.ndim):
        before = (slice(None),) * axis + (slice(None, -1),)
        after = (slice(None),) * axis + (slice(1, None),)
        differ = ids[before] != ids[after]
        found[before] |= differ
        found[after] |= differ
    return found


def _mean(region: EvaluatedRegion, where: Mask) -> float:
    values = region.scores[where]
    return float(values.mean(dtype=np.float64)) if values.size >= FEWEST else math.nan
