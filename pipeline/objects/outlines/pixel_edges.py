"""The edges of pixels between different labels, each with its object on the left.

::

    (0, 0) ──0──> (0, 1)      x to the right, y down; directions 0 to 3 of the edges around a pixel,
       ^             │        along +x, +y, -x, -y. With y up they turn counterclockwise, as
       3             1        RFC 7946 wants exterior rings; holes turn clockwise.
       │             v
    (1, 0) <──2── (1, 1)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PixelEdges:
    """Edge k belongs to the object ``labels[k]``; it starts at (``y[k]``, ``x[k]``)."""

    labels: NDArray[np.int64]
    y: NDArray[np.int64]
    x: NDArray[np.int64]
    directions: NDArray[np.int8]

    @classmethod
    def joined(cls, parts: Sequence[PixelEdges]) -> PixelEdges:
        """Return all edges of some parts."""
        return cls(
            labels=np.concatenate([part.labels for part in parts]),
            y=np.concatenate([part.y for part in parts]),
            x=np.concatenate([part.x for part in parts]),
            directions=np.concatenate([part.directions for part in parts]),
        )

    def of(self, labels: NDArray[Any]) -> PixelEdges:
        """Return the edges of some objects."""
        return self.taken(np.flatnonzero(np.isin(self.labels, labels)))

    def moved(self, rows: int) -> PixelEdges:
        """Return the edges some rows below."""
        return PixelEdges(labels=self.labels, y=self.y + rows, x=self.x, directions=self.directions)

    def taken(self, order: NDArray[Any]) -> PixelEdges:
        """Return the edges with these numbers, in their order."""
        return PixelEdges(
            labels=self.labels[order], y=self.y[order], x=self.x[order],
            directions=self.directions[order],
        )  # fmt: skip


def edges_of(
    labels_yx: NDArray[Any], *, row_above: NDArray[Any] | None = None, is_end: bool = True
) -> PixelEdges:
    """Return the edges of all labels of an image except 0, which lies around it too.

    row_above, is_end: for an image that is passed in strips from its top. The edges between two
    strips are those of the lower one, which needs the last row of the upper one.
    """
    above = np.zeros_like(labels_yx[:1]) if row_above is None else row_above[None]
    below = np.zeros_like(labels_yx[:1] if is_end else labels_yx[:0])
    rows = np.concatenate((above, labels_yx, below))
    columns = np.pad(labels_yx, ((0, 0), (1, 1)))
    return PixelEdges.joined(
        [
            _edges(rows[1:], rows[:-1], start=(0, 0), direction=0),
            _edges(columns[:, :-1], columns[:, 1:], start=(0, 0), direction=1),
            _edges(rows[:-1], rows[1:], start=(0, 1), direction=2),
            _edges(columns[:, 1:], columns[:, :-1], start=(1, 0), direction=3),
        ]
    )


def _edges(
    inside: NDArray[Any], outside: NDArray[Any], *, start: tuple[int, int], direction: int
) -> PixelEdges:
    """Return the edges of one direction. start: of an edge, from its place in the arrays."""
    y, x = np.nonzero((inside != outside) & (inside != 0))
    return PixelEdges(
        labels=inside[y, x].astype(np.int64), y=y + start[0], x=x + start[1],
        directions=np.full(len(y), direction, np.int8),
    )  # fmt: skip
