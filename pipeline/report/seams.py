"""A check for seams: the change across block borders, against the change between other voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..base.errors import GeometryError

VISIBLE_RATIO: Final = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SeamStatistics:
    """Mean difference of neighbours across block borders, and of all others. See ``ratio``."""

    across_borders: float
    elsewhere: float
    border_pairs: int
    """Compared pairs across borders; 0 if there was nothing to compare."""
    lines_like_worst: float = 1.0
    """Share of the other lines that change at least as much as the worst border.

    Lines differ naturally; a border that changes more than all of them is a seam.
    """

    @property
    def ratio(self) -> float:
        """``across_borders / elsewhere``: about 1 without visible seams, more with seams.

        1 if nothing changes or nothing was compared; infinite if only borders change.
        """
        if self.elsewhere > 0:
            return self.across_borders / self.elsewhere
        return math.inf if self.across_borders > 0 else 1.0

    @property
    def is_visible(self) -> bool:
        """Whether a border stands out: it changes more than all other lines, and far more.

        Without a seam, the first alone happens now and then, where there are many borders.
        """
        return self.border_pairs > 0 and self.lines_like_worst == 0 and self.ratio >= VISIBLE_RATIO


def seam_statistics(
    values: NDArray[Any], *, block_edges: Sequence[Sequence[int] | None]
) -> SeamStatistics:
    """Compare the change between neighbours across block borders with that of other neighbours.

    ::

        | . . . . | . . . . |     block_edges 4: the pair (3, 4) lies across a border,
          0 1 2 3   4 5 6 7       the pairs (0, 1) … (6, 7) do not

    values: classes (integers; change is the share of pairs that differ) or scores (floats; change
    is the mean absolute difference). block_edges: per axis the first voxels of all blocks but the
    first, or None for an axis that is not spatial. ``elsewhere`` weights the axes as ``across``
    does, so that an axis along which a volume changes faster does not look like a seam; an axis
    without borders, or with borders only, is left out.
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
    """Return which of the ``inner`` pairs of neighbours along an axis cross a border."""
    if any(not 0 < edge <= inner for edge in edges):
        raise GeometryError(
            f"block edges {list(edges)}: expected 1 to {inner} on an axis of {inner + 1}"
        )
    border = np.zeros(max(inner, 0), bool)
    border[[edge - 1 for edge in edges]] = True
    return border


def _change(values: NDArray[Any]) -> NDArray[Any]:
    """Return the change between neighbours along the first axis."""
    if values.dtype.kind in "biu":
        return values[1:] != values[:-1]
    return np.abs(np.diff(values, axis=0))
