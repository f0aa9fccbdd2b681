"""Which blocks of a plan meet a mask: one pass over the mask before a run, a few MB at a time.

The pass also gives a digest of the mask's contents, which is part of the job. Workers read the part
of the mask that their block needs, and nothing else.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..base.geometry import Box, Shape
from ..planning.block_selection import BlockSelection
from ..volume.mask import MaskSource

PIECE_VOXELS: Final = 2**23
"""Voxels of the mask that are read at once, at least a chunk of it."""
THREADS: Final = 4

Spans = tuple[NDArray[np.intp], NDArray[np.intp]]
"""First voxel of the mask, and the one after the last, of each block along an axis."""


def survey_mask(mask: MaskSource, selection: BlockSelection) -> tuple[BlockSelection, str]:
    """Return the selected blocks that have a voxel inside, and a digest of what was read."""
    plan = selection.plan
    computed = plan.computed.shifted(plan.origin)
    touched = mask.touched(computed)
    first = tuple(a // c for a, c in zip(plan.computed.start, plan.core, strict=True))
    spans = [_spans(mask, selection, axis) for axis in range(3)]
    counts = tuple(len(starts) for starts, _ in spans)
    found = np.zeros(counts, np.bool_)
    digest = hashlib.sha256(repr((touched.start, touched.stop)).encode())
    for piece, inside in _pieces(mask, touched):
        digest.update(hashlib.sha256(np.packbits(inside).tobytes()).digest())
        _mark(found, inside, piece, spans)
    chosen = np.zeros(plan.grid, np.bool_)
    chosen[tuple(slice(a, a + n) for a, n in zip(first, counts, strict=True))] = found
    return BlockSelection(plan, chosen), digest.hexdigest()


def _spans(mask: MaskSource, selection: BlockSelection, axis: int) -> Spans:
    """Return the mask's voxels for each block along an axis that meets the computed box."""
    plan, core = selection.plan, selection.plan.core[axis]
    low, high = plan.computed.start[axis], plan.computed.stop[axis]
    origin = plan.origin[axis]
    ends = [
        mask.axes[axis].span(origin + max(low, a), origin + min(high, a + core))
        for a in range(low // core * core, high, core)
    ]
    return np.array([a for a, _ in ends], np.intp), np.array([b for _, b in ends], np.intp)


def _pieces(mask: MaskSource, touched: Box) -> Iterator[tuple[Box, NDArray[np.bool_]]]:
    """Yield boxes of the mask that cover ``touched``, with their contents, in a fixed order.

    The boxes depend on the mask's chunks alone, so the digest does not depend on the plan.
    """
    step = _piece_shape(mask.source.chunk_shape_zyx, mask.source.shape_zyx)
    starts = itertools.product(
        *(
            range(a // s * s, b, s)
            for a, b, s in zip(touched.start, touched.stop, step, strict=True)
        )
    )
    with ThreadPoolExecutor(THREADS, thread_name_prefix="mask") as pool:
        while some := list(itertools.islice(starts, THREADS)):
            boxes = [
                Box(a, tuple(i + s for i, s in zip(a, step, strict=True))).clipped_to(touched)
                for a in some
            ]
            yield from zip(boxes, pool.map(mask.read, boxes), strict=True)


def _piece_shape(chunk: Shape, shape: Shape) -> Shape:
    """Return whole chunks of about :data:`PIECE_VOXELS`, as wide as they can be."""
    piece = [min(c, n) for c, n in zip(chunk, shape, strict=True)]
    for axis in (2, 1, 0):
        others = int(np.prod(piece)) // piece[axis]
        times = max(1, PIECE_VOXELS // others // chunk[axis])
        piece[axis] = min(shape[axis], chunk[axis] * times)
    return tuple(piece)


def _mark(
    found: NDArray[np.bool_], inside: NDArray[np.bool_], piece: Box, spans: list[Spans]
) -> None:
    """Set the blocks that have a voxel inside a piece of the mask."""
    if not inside.any():
        return
    place: list[slice] = []
    for axis in (2, 1, 0):  # x first: it is next to each other in memory
        starts, stops = spans[axis]
        low, high = piece.start[axis], piece.stop[axis]
        first, last = int(np.searchsorted(stops, low, "right")), int(np.searchsorted(starts, high))
        place.insert(0, slice(first, last))
        if first >= last:
            return
        inside = _any_per_span(
            inside,
            np.clip(starts[first:last] - low, 0, high - low),
            np.clip(stops[first:last] - low, 0, high - low),
            axis,
        )
    found[tuple(place)] |= inside


def _any_per_span(
    values: NDArray[np.bool_], starts: NDArray[np.intp], stops: NDArray[np.intp], axis: int
) -> NDArray[np.bool_]:
    """Return whether any value of each span along an axis is true; spans may overlap."""
    padding = [(0, int(a == axis)) for a in range(values.ndim)]  # a stop may be the length
    ends = np.stack([starts, stops], axis=1).ravel()
    reduced = np.logical_or.reduceat(np.pad(values, padding), ends, axis=axis)
    return np.asarray(reduced.take(range(0, len(ends), 2), axis=axis))
