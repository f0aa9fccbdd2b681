"""The outlines of some objects, from their labels: those near each other are read together.

An object's box is known from the table, so its voxels are read, and nothing else. Larger objects
are read in strips, of which only the edges are kept. Memory is that of one window or strip.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...base.errors import OutputError
from ...base.geometry import Box
from ...volume.volume import Volume, read_box
from ..table.finished import TableRows
from .pixel_edges import PixelEdges, edges_of
from .rings import Polygon, polygons_of, rings_of

WINDOW: Final = 1024
"""Pixels, per axis, in which objects start that are read together. Larger ones are read alone."""
STRIP_PIXELS: Final = 2**22


def outlines_of(
    rows: TableRows, labels: Volume, *, window: int = WINDOW, strip_pixels: int = STRIP_PIXELS
) -> list[list[Polygon]]:
    """Return the polygons of each row's object, whose corners are x, y in the labels.

    Every object lies in one z. Raises OutputError where labels and table do not agree.
    """
    corners, ids = rows.corners, rows.ids.astype(np.int64)
    found: list[list[Polygon]] = [[]] * len(ids)
    for members in _windows(corners, window):
        box = _union(corners[members])
        is_alone = len(members) == 1
        edges = _edges(labels, box, strip_pixels) if is_alone else edges_of(_plane(labels, box))
        row_of = dict(zip(ids[members].tolist(), members.tolist(), strict=True))
        edges = edges.of(ids[members])
        for label, polygons in polygons_of(rings_of(edges)):
            for ring in (ring for polygon in polygons for ring in polygon):
                ring += np.array(box.start[:0:-1])
            found[row_of[label]] = polygons
    _check(rows, found)
    return found


def _windows(corners: NDArray[np.int64], window: int) -> Iterator[NDArray[np.int64]]:
    """Yield the rows whose boxes are read together: in one z, and starting in one window."""
    sizes = corners[:, 1, 1:] - corners[:, 0, 1:]
    place = corners[:, 0].copy()
    place[:, 1:] //= window
    is_large = (sizes > window).any(axis=1)
    number = np.where(is_large, np.arange(1, len(place) + 1), 0)  # alone
    _, group = np.unique(np.column_stack((place, number)), axis=0, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(group.ravel()[order])) + 1)


def _union(corners: NDArray[np.int64]) -> Box:
    start, stop = corners[:, 0].min(axis=0), corners[:, 1].max(axis=0)
    return Box(tuple(start.tolist()), tuple(stop.tolist()))


def _plane(labels: Volume, box: Box) -> NDArray[Any]:
    return np.asarray(read_box(labels.source, box)[0, 0])


def _edges(labels: Volume, box: Box, strip_pixels: int) -> PixelEdges:
    """Return the edges in a box of any size, read in strips."""
    z, y, x = box.start
    height, width = box.shape[1:]
    rows = max(1, strip_pixels // width)
    parts, above = [], None
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = _plane(labels, Box((z, y + top, x), (z + 1, y + bottom, x + width)))
        edges = edges_of(strip, row_above=above, is_end=bottom == height)
        parts.append(edges.moved(top))
        above = strip[-1]
    return PixelEdges.joined(parts)


def _check(rows: TableRows, found: list[list[Polygon]]) -> None:
    """Raise OutputError unless the polygons have the pixels that the table states."""
    for identifier, pixels, polygons in zip(rows.ids, rows.voxels, found, strict=True):
        if sum(area_of(ring) for polygon in polygons for ring in polygon) != pixels:
            raise OutputError(
                f"object {identifier} has other pixels in the labels than in the table: expected "
                "the output of one run; find the objects again with overtile objects … --overwrite"
            )


def area_of(ring: NDArray[np.int64]) -> int:
    """Return the pixels inside a ring, below 0 for a hole."""
    x, y = ring[:, 0], ring[:, 1]
    return int((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) // 2
