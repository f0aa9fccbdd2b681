"""Joins pixel edges to rings: exteriors and holes of polygons.

Where two pixels of an object touch at a corner only, a ring turns left and stays at its own pixel.
A ring that comes back to such a corner is cut there. So no ring meets itself, each piece of an
object that hangs together through edges has one exterior, and rings touch at corners at most, as
valid polygons may.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...base.compiled import compiled
from .pixel_edges import PixelEdges

Integers: TypeAlias = NDArray[np.int64]
Ring: TypeAlias = NDArray[np.int64]
"""Corners (n, 2) as x, y; the first one is not repeated."""
Polygon: TypeAlias = list[Ring]
"""The exterior, then the holes."""

_STEP_Y = np.array([0, 1, 0, -1])
_STEP_X = np.array([1, 0, -1, 0])


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Rings:
    """Rings of all objects: ring r consists of ``edges[starts[r]:starts[r + 1]]``."""

    edges: PixelEdges
    starts: Integers

    @property
    def labels(self) -> Integers:
        """The object of each ring."""
        return self.edges.labels[self.starts[:-1]]

    @property
    def areas(self) -> Integers:
        """Pixels inside each ring: above 0 for exteriors, below 0 for holes."""
        turns, x = self.edges.directions, self.edges.x
        signed = np.where(turns == 1, x, np.where(turns == 3, -x, 0))
        return np.add.reduceat(signed, self.starts[:-1])

    def corners(self, ring: int) -> Ring:
        """Return where a ring turns."""
        part = slice(self.starts[ring], self.starts[ring + 1])
        turns = self.edges.directions[part]
        kept = turns != np.roll(turns, 1)
        return np.stack((self.edges.x[part][kept], self.edges.y[part][kept]), axis=1)


def rings_of(edges: PixelEdges) -> Rings:
    """Return the rings of closed edges, sorted by object and then by their first corners."""
    width = int(edges.x.max(initial=0)) + 2
    height = int(edges.y.max(initial=0)) + 2
    object_number = np.unique(edges.labels, return_inverse=True)[1].astype(np.int64)
    corner = (object_number * height + edges.y) * width + edges.x
    order = np.lexsort((edges.directions, corner))
    edges, corner = edges.taken(order), corner[order]
    turns = edges.directions
    end = corner + _STEP_Y[turns] * width + _STEP_X[turns]
    following = np.searchsorted(corner, end)
    assert np.array_equal(corner.take(following, mode="clip"), end), "the edges are not closed"
    second = np.minimum(following + 1, len(corner) - 1)
    is_left = (corner[second] == end) & (turns[second] == (turns + 1) % 4)
    following = np.where(is_left & (second != following), second, following)
    distinct = np.unique(corner, return_inverse=True)[1].astype(np.int64)
    path, starts = _walk(following, distinct)
    return Rings(edges=edges.taken(path), starts=starts)


def polygons_of(rings: Rings) -> Iterator[tuple[int, list[Polygon]]]:
    """Yield each object with its polygons, objects in ascending order."""
    labels, areas = rings.labels, rings.areas
    exterior = _exteriors(rings, areas)
    found: dict[int, dict[int, Polygon]] = {}
    for ring in np.argsort(areas < 0, kind="stable").tolist():
        polygons = found.setdefault(int(labels[ring]), {})
        polygons.setdefault(int(exterior[ring]), []).append(rings.corners(ring))
    for label in sorted(found):
        yield label, list(found[label].values())


def _exteriors(rings: Rings, areas: Integers) -> Integers:
    """Return the exterior ring of each ring: of a hole, that of the piece in which it is.

    The pixel left of a hole's leftmost side belongs to that piece, and so does the run of pixels to
    the left of it, up to a side of the exterior, or of a hole farther left.
    """
    edges = rings.edges
    ring_of_edge = np.repeat(np.arange(len(areas)), np.diff(rings.starts))
    width = int(edges.x.max(initial=0)) + 2
    height = int(edges.y.max(initial=0)) + 2
    numbers = np.unique(edges.labels, return_inverse=True)[1].astype(np.int64)

    def places(chosen: NDArray[Any], row_offset: int) -> Integers:
        rows = edges.y[chosen] + row_offset
        return (numbers[chosen] * height + rows) * width + edges.x[chosen]

    left_sides = np.flatnonzero(edges.directions == 3)
    left_places = places(left_sides, -1)
    order = np.argsort(left_places)
    left_sides, left_places = left_sides[order], left_places[order]

    owner = np.arange(len(areas))
    holes = np.flatnonzero(areas < 0)
    right_sides = np.flatnonzero((edges.directions == 1) & (areas < 0)[ring_of_edge])
    by_x = right_sides[np.lexsort((edges.x[right_sides], ring_of_edge[right_sides]))]
    leftmost = by_x[np.searchsorted(ring_of_edge[by_x], holes)]
    before = np.searchsorted(left_places, places(leftmost, 0) - 1, side="right") - 1
    owner[holes] = ring_of_edge[left_sides[before]]
    while len(inner := np.flatnonzero(areas[owner] < 0)):
        owner[inner] = owner[owner[inner]]
    return owner


@compiled
def _walk(following: Integers, corner: Integers) -> tuple[Integers, Integers]:
    """Return the edges ring by ring, and where each ring starts.

    following: the edge after each edge. corner: where each edge starts, numbered from 0.
    """
    count = len(following)
    done = np.zeros(count, np.bool_)
    place = np.full(count, -1, np.int64)  # of a corner in the path
    path = np.empty(count, np.int64)
    edges, written = np.empty(count, np.int64), 0
    starts, rings = np.zeros(count + 1, np.int64), 0
    for first in range(count):
        if done[first]:
            continue
        length, edge, is_begun = 0, first, False
        while edge != first or not is_begun:
            is_begun = True
            at = place[corner[edge]]
            if at >= 0:  # the path is back at a corner: cut the ring
                for k in range(at, length):
                    edges[written] = path[k]
                    written += 1
                    place[corner[path[k]]] = -1
                rings += 1
                starts[rings] = written
                length = at
            place[corner[edge]] = length
            path[length] = edge
            length += 1
            done[edge] = True
            edge = following[edge]
        for k in range(length):
            edges[written] = path[k]
            written += 1
            place[corner[path[k]]] = -1
        rings += 1
        starts[rings] = written
    return edges, starts[: rings + 1]
