"""Exact distances to the outside of a mask, up to a limit: a function of the voxels near by only.

Distances are integer steps (see lengths.py), and their squares are exact, so that no result depends
on where a block starts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...base.compiled import compiled


def squared_distance(
    inside_zyx: NDArray[np.bool_], *, spacing: Sequence[int], limit: int
) -> NDArray[np.int64]:
    """Return the squared distance of every voxel to the nearest one outside the mask.

    spacing: size of a voxel per axis, limit: the largest distance of interest, both in steps.
    Distances above the limit are returned as ``limit**2 + 1``. Beyond the array nothing is outside.
    Exact where the array holds all voxels within :func:`.lengths.distance_halo`.
    """
    far = limit * limit + 1
    squares = np.where(inside_zyx, np.int64(far), np.int64(0))
    for axis, step in enumerate(spacing):
        reach = limit // step
        if reach and squares.shape[axis] > 1:
            moved = np.ascontiguousarray(np.moveaxis(squares, axis, -1))
            flat = moved.reshape(-1, moved.shape[-1])
            lowered = _lower_along_rows(flat, step, reach).reshape(moved.shape)
            squares = np.moveaxis(lowered, -1, axis)
    return np.ascontiguousarray(squares)


@compiled
def _lower_along_rows(rows: NDArray[np.int64], step: int, reach: int) -> NDArray[np.int64]:
    """Return, per row, the minimum over ``j`` of ``row[i + j] + (step * j)**2``."""
    count, length = rows.shape
    out = rows.copy()
    for row in range(count):
        for i in range(length):
            best = rows[row, i]
            for j in range(1, reach + 1):
                square = step * j * (step * j)
                if square >= best:
                    break
                if i >= j and rows[row, i - j] + square < best:
                    best = rows[row, i - j] + square
                if i + j < length and rows[row, i + j] + square < best:
                    best = rows[row, i + j] + square
            out[row, i] = best
    return out
