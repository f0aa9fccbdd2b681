"""Counts the faces at which objects touch, in a block and across two, and sums the scores there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...base.compiled import compiled, inlined
from .adjacency import Adjacency, Names

Labels: TypeAlias = NDArray[np.int32]
Scores: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]

_FIRST_ROWS: Final = 1 << 12
"""Rows of the first table of pairs; it is doubled as it fills. A power of two."""
_SPREAD: Final = -7046029254386353131
"""2**64 / golden ratio, odd, as int64: the multiplier of Fibonacci hashing (Knuth, vol. 3, 6.4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledPlane:
    """The plane of one block that touches another block.

    labels, scores: of one shape, 1 … n and 0 for the background. names: the name of each label,
    ``names[0]`` is not used.
    """

    labels: Labels
    scores: Scores
    names: Names


def adjacency_of(labels_zyx: Labels, scores_zyx: Scores, *, per_slice: bool = False) -> Adjacency:
    """Return which labels of a block touch; the names in it are the labels (see ``named``).

    Two voxels touch if they share a face. labels_zyx: 1 … n, 0 is the background.
    per_slice: voxels of different z do not touch.
    Memory: 3 int64 per row of a table that is at most half full, about 60 to 130 bytes per pair.
    """
    axes = (1, 2) if per_slice else (0, 1, 2)
    scores = np.ascontiguousarray(scores_zyx, np.uint16)
    return _counted(labels_zyx, dict.fromkeys(axes, scores), is_edge=False)


def adjacency_along_edges(
    labels_zyx: Labels, heights: Mapping[int, NDArray[np.uint16]]
) -> Adjacency:
    """Return which labels of a block touch, with the sums of the heights of the edges there.

    heights: by axis, (z, y, x) of the edge from each voxel to the one before it along the axis.
    """
    return _counted(labels_zyx, heights, is_edge=True)


def _counted(labels_zyx: Labels, values: Mapping[int, Scores], *, is_edge: bool) -> Adjacency:
    """Count pairs of voxels. values: by axis along which they touch; of voxels, or of edges."""
    labels = np.ascontiguousarray(labels_zyx, np.int32)
    depth, rows, columns = labels.shape
    plane = rows * columns
    lines = {
        0: (plane, depth * plane, plane, columns),
        1: (columns, plane, columns, columns),
        2: (1, columns, 1, columns),
    }
    table, used = np.zeros((_FIRST_ROWS, 3), np.int64), 0
    for axis, of_axis in values.items() if labels.size else ():
        flat = np.ascontiguousarray(of_axis, np.uint16).ravel()  # one type: one compilation
        table, used = _count_lines(labels.ravel(), flat, table, used, lines[axis], is_edge)
    return _from_table(table)


def adjacency_across(one: LabelledPlane, other: LabelledPlane) -> Adjacency:
    """Return which objects touch between two blocks, each given by its plane beside the other."""
    touch = (one.labels > 0) & (other.labels > 0)
    higher = np.maximum(one.scores[touch], other.scores[touch]).astype(np.int64)
    return Adjacency.of_pairs(
        one.names[one.labels[touch]], other.names[other.labels[touch]],
        total=higher, faces=np.ones_like(higher),
    )  # fmt: skip


def named(local: Adjacency, names: Names) -> Adjacency:
    """Return a block's adjacency with the names of its labels; ``names[0]`` is not used.

    Labels with one name become one object, as in ``Adjacency.renamed``.
    """
    return Adjacency.of_pairs(
        names[local.low], names[local.high], total=local.total, faces=local.faces
    )


def _from_table(table: NDArray[np.int64]) -> Adjacency:
    rows = table[table[:, 0] != 0]
    rows = rows[np.argsort(rows[:, 0])]
    return Adjacency(
        low=(rows[:, 0] >> 32).astype(np.uint64),
        high=(rows[:, 0] & 0xFFFFFFFF).astype(np.uint64),
        total=rows[:, 1].copy(), faces=rows[:, 2].copy(),
    )  # fmt: skip


@compiled
def _count_lines(
    labels: Labels,
    scores: NDArray[np.uint16],
    table: NDArray[np.int64],
    used: int,
    lines: tuple[int, int, int, int],
    is_edge: bool,
) -> tuple[NDArray[np.int64], int]:
    """Count the pairs (voxel, voxel ``step`` before it); return the table, and its rows in use.

    lines: (step, period, skipped, length). In each period of voxels the first ``skipped`` have no
    voxel before them; the others are counted in lines of at most ``length``, and the table grows
    between lines only. is_edge: whether a score is that of the pair with the voxel before it;
    otherwise the higher score of both voxels counts.
    """
    step, period, skipped, length = lines
    for start in range(0, labels.size, period):
        stop = start + period
        for line in range(start + skipped, stop, length):
            if 2 * (used + length) > table.shape[0]:
                table = _grown(table, 2 * (used + length))
            end = min(line + length, stop)
            used += _count_line(labels, scores, table, step, line, end, is_edge)
    return table, used


@compiled
def _count_line(
    labels: Labels,
    scores: NDArray[np.uint16],
    table: NDArray[np.int64],
    step: int,
    start: int,
    stop: int,
    is_edge: bool,
) -> int:
    """Count the pairs of one line; return how many rows were begun.

    Neighbours mostly lie between the same objects, so runs are summed before the table is touched.
    """
    begun = 0
    key, total, faces = np.int64(0), np.int64(0), np.int64(0)
    for here in range(start, stop):
        one, other = np.int64(labels[here - step]), np.int64(labels[here])
        if one == other or one == 0 or other == 0:
            continue
        pair = (one << 32 | other) if one < other else (other << 32 | one)
        if pair != key:
            if faces:
                begun += _add(table, key, total, faces)
            key, total, faces = pair, np.int64(0), np.int64(0)
        score = scores[here]
        if not is_edge:
            score = max(score, scores[here - step])
        total += np.int64(score)
        faces += 1
    if faces:
        begun += _add(table, key, total, faces)
    return begun


@inlined
def _add(table: NDArray[np.int64], key: np.int64, total: np.int64, faces: np.int64) -> int:
    """Add to the row of a key, in a hash table with linear probing; return 1 if the row is new."""
    mask = table.shape[0] - 1
    row = (key * _SPREAD >> 32) & mask
    while table[row, 0] != key and table[row, 0] != 0:
        row = (row + 1) & mask
    is_new = table[row, 0] == 0
    table[row, 0] = key
    table[row, 1] += total
    table[row, 2] += faces
    return 1 if is_new else 0


@compiled
def _grown(table: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """Return the table with at least ``rows`` rows, a power of two."""
    size = table.shape[0]
    while size < rows:
        size *= 2
    grown = np.zeros((size, 3), np.int64)
    for row in range(table.shape[0]):
        if table[row, 0]:
            _add(grown, table[row, 0], table[row, 1], table[row, 2])
    return grown
