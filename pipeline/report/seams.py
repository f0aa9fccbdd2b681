"""Whether a seam can be seen: the change across borders of blocks beside the change elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import GeometryError


@dataclass(frozen=True, slots=True, kw_only=True)
class SeamStatistics:
    """How much neighbours differ across the borders of blocks, and elsewhere. See the ``ratio``."""

    across_borders: float
    elsewhere: float
    border_pairs: int
    """Neighbours across borders that were compared; 0 where there was nothing to compare."""
    lines_like_worst: float = 1.0
    """Share of lines elsewhere that change at least as much as the worst border does.

    Lines differ from each other by nature; a border that stands out of all of them is a seam.
    """

    @property
    def ratio(self) -> float:
        """``across_borders / elsewhere``: about 1 where no seam can be seen, more where one can.

        1 where nothing changes anywhere or nothing was compared; infinite where only borders show.
        """
        if self.elsewhere > 0:
            return self.across_borders / self.elsewhere
        return math.inf if self.across_borders > 0 else 1.0


def seam_statistics(
    values: NDArray[Any], *, block_edges: Sequence[Sequence[int] | None]
) -> SeamStatistics:
    """Compare the change between neighbours across borders of blocks with the change elsewhere.

    ::

        | . . . . | . . . . |     block_edges 4: the pair (3, 4) lies across a border,
          0 1 2 3   4 5 6 7       the pairs (0, 1) … (6, 7) do not

    values: classes (integers; change is the part of pairs that differ) or scores (floats; change
    is the mean absolute difference). block_edges: per axis the first voxels of all blocks but the
    first, or None for an axis that is not of space. ``elsewhere`` weighs the axes as ``across``
    does, so that an axis along which a volume changes faster does not look like a seam; an axis
    without border, or with nothing but borders, is left out.
    Raises GeometryError for edges that are not inside the array, or not one entry per axis.
    """
    if len(block_edges) != values.ndim:
        raise GeometryError(f"{len(block_edges)} lists of edges for {values.ndim} axes")
    pairs, across, elsewhere, alike = 0, 0.0, 0.0, 1.0
    for axis, edges in enumerate(block_edges):
        inner = values.shape[axis] - 1
        border = _border_pairs(edges or (), inner=inner)
        if not 0 < border.sum() < inner:
            continue
        change = _change(np.moveaxis(values, axis, 0))
        border_pairs = int(border.sum()) * (values.size // values.shape[axis])
        across += float(change[border].mean()) * border_pairs
        elsewhere += float(change[~border].mean()) * border_pairs
        pairs += border_pairs
        per_line = change.reshape(inner, -1).mean(axis=1)
        alike = min(alike, float((per_line[~border] >= per_line[border].max()).mean()))
    weight = max(pairs, 1)
    return SeamStatistics(
        across_borders=across / weight,
        elsewhere=elsewhere / weight,
        border_pairs=pairs,
        lines_like_worst=alike,
    )


def _border_pairs(edges: Sequence[int], *, inner: int) -> NDArray[np.bool_]:
    """Return which of the ``inner`` pairs of neighbours along an axis lie across a border."""
    if any(not 0 < edge <= inner for edge in edges):
        raise GeometryError(
            f"edges {list(edges)} of blocks: an axis of {inner + 1} has 1 to {inner}"
        )
    border = np.zeros(max(inner, 0), bool)
    border[[edge - 1 for edge in edges]] = True
    return border


def _change(values: NDArray[Any]) -> NDArray[Any]:
    """Return the change between neighbours along the first axis."""
    if values.dtype.kind in "biu":
        return values[1:] != values[:-1]
    return np.abs(np.diff(values, axis=0))
