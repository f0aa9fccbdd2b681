"""Counts the objects of one block: the rows that the volume's table is merged from."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...base.compiled import compiled
from ...base.errors import GeometryError
from ...base.geometry import Box, Halo, Shape
from .exact import INTEGER_LIMBS, Integers, Limbs, carried, exact, plus, times
from .rows import FLOAT_LIMBS, ObjectRows, kept_dtype

Runs: TypeAlias = NDArray[np.int32]
"""(runs, 4): z, y, first x and the x behind the last, in the core."""
Bounds: TypeAlias = tuple[Limbs, Integers, NDArray[Any], NDArray[Any]]
"""Sums (objects, limbs), voxels, minima and maxima (objects,) of one channel."""

VOXELS_BELOW: Final = 2**31
SIDE_AT_MOST: Final = 2**16
"""With both, sums of products of coordinates in a block stay below 2**63."""


def table_outer(core: Box, shape: Shape) -> Box:
    """Return the box of labels that the rows of a core need: one voxel more where there is one."""
    return Halo.same_on_both_sides((1, 1, 1)).around(core).clipped_to(Box.of_shape(shape))


def rows_of_block(
    labels_zyx: NDArray[Any],
    *,
    core: Box,
    shape: Shape,
    scores_zyx: NDArray[Any] | None = None,
    intensities_czyx: NDArray[Any] | None = None,
) -> ObjectRows:
    """Return the rows of the voxels of a block's core.

    ::

        |cccccccccccc|h              core c at the volume's edge: its halo h lies inside only
                    h|cccccccc|h     an inner core
        labels_zyx:  c and h         scores_zyx, intensities_czyx:  c

    labels_zyx: unsigned final ids, 0 is background; those of ``table_outer(core, shape)``. The halo
    shows which faces of the core's voxels touch another object; its own voxels are not counted.
    core: its box in the labelled volume of ``shape`` (z, y, x).
    scores_zyx: stored integers. intensities_czyx: integers or floats; NaN and infinite values are
    left out of sums, minima and maxima.
    Memory: about 55 bytes per run of equal labels along x; 1 to 3 bytes per voxel for cells, and 55
    where no two neighbours are equal.
    Raises GeometryError for arrays of other shapes, and for a core of 2**31 voxels or a side above
    65,536.
    """
    _check(labels_zyx, core, shape, scores_zyx, intensities_czyx)
    is_wide = labels_zyx.dtype.itemsize == 8
    labels = np.ascontiguousarray(labels_zyx, np.uint64 if is_wide else np.uint32)
    inside = core.relative_to(table_outer(core, shape).start)
    runs, run_ids = _runs(labels, np.array(inside.start), np.array(inside.stop))
    ids, row_of_run = np.unique(run_ids, return_inverse=True)
    rows = (runs, row_of_run.astype(np.int64), len(ids))
    sums, first, last, inner, outer = _measured(labels, run_ids, np.array(inside.start), *rows)
    start = np.array(core.start)
    scores = _integers(scores_zyx, *rows)[0] if scores_zyx is not None else exact([0] * len(ids))
    channels = [] if intensities_czyx is None else [_values(one, *rows) for one in intensities_czyx]
    none = ObjectRows.empty(len(channels), dtype=_dtype(intensities_czyx))
    return ObjectRows(
        ids=ids.astype(np.uint64),
        voxels=sums[:, 0],
        moments=_moved(sums, core.start),
        score_sums=scores,
        first=first + start,
        last=last + start,
        inner_faces=inner,
        outer_faces=outer,
        intensity_sums=_stacked([one[0] for one in channels], none.intensity_sums, len(ids)),
        intensity_voxels=_stacked([one[1] for one in channels], none.intensity_voxels, len(ids)),
        intensity_min=_stacked([one[2] for one in channels], none.intensity_min, len(ids)),
        intensity_max=_stacked([one[3] for one in channels], none.intensity_max, len(ids)),
    )


def _check(
    labels: NDArray[Any],
    core: Box,
    shape: Shape,
    scores: NDArray[Any] | None,
    intensities: NDArray[Any] | None,
) -> None:
    """Raise GeometryError where a shape does not fit the core, or the core is too large."""
    if core.voxels >= VOXELS_BELOW or max(core.shape) > SIDE_AT_MOST:
        raise GeometryError(
            f"a block of {core.shape} voxels is too large: expected fewer than {VOXELS_BELOW} "
            f"voxels and sides up to {SIDE_AT_MOST}; choose a smaller block"
        )
    expected = (
        ("labels", labels.shape, table_outer(core, shape).shape),
        ("scores", core.shape if scores is None else scores.shape, core.shape),
        ("intensities", core.shape if intensities is None else intensities.shape[1:], core.shape),
    )
    for name, given, wanted in expected:
        if tuple(given) != wanted:
            raise GeometryError(f"{name} of shape {given}: expected {wanted} for core {core}")


def _dtype(intensities: NDArray[Any] | None) -> np.dtype[Any]:
    return np.dtype(np.uint8) if intensities is None else intensities.dtype


def _stacked(channels: list[NDArray[Any]], empty: NDArray[Any], objects: int) -> NDArray[Any]:
    """Return (objects, channels, …) of one array (objects, …) per channel."""
    if channels:
        return np.stack(channels, axis=1)
    return np.empty((objects, *empty.shape[1:]), empty.dtype)


def _moved(sums: Integers, start: Shape) -> Limbs:
    """Return the sums of coordinates and products in the volume, from those in the core.

    sum (a + A)(b + B) = sum ab + A sum b + B sum a + n A B, with the core's start (A, B).
    """
    voxels = exact(sums[:, 0])
    local = [exact(sums[:, 1 + axis]) for axis in range(3)]
    moved = [plus(local[axis], times(voxels, start[axis])) for axis in range(3)]
    for column, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)), 4):
        crossed = plus(times(local[b], start[a]), times(local[a], start[b]))
        corner = times(times(voxels, start[a]), start[b])
        moved.append(plus(plus(exact(sums[:, column]), crossed), corner))
    return np.stack(moved, axis=1)


def _values(values_zyx: NDArray[Any], runs: Runs, rows: Integers, count: int) -> Bounds:
    """Return the sums and bounds of a channel."""
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite and is left out
        kept = values_zyx.astype(kept_dtype(values_zyx.dtype), copy=False)
    if kept.dtype.kind != "f":
        return _integers(kept, runs, rows, count)
    values = np.ascontiguousarray(kept)
    digits, voxels, least, most = _sum_floats(values, values.view(np.uint32), runs, rows, count)
    return carried(digits), voxels, least, most


def _integers(values_zyx: NDArray[Any], runs: Runs, rows: Integers, count: int) -> Bounds:
    values = np.ascontiguousarray(values_zyx)
    total, voxels, least, most = _sum_integers(values, runs, rows, count)
    if values.dtype.itemsize < 8:
        return exact(total), voxels, least, most
    digits = np.zeros((count, INTEGER_LIMBS), np.int64)  # the sum of 64-bit integers may overflow
    low, high = values & values.dtype.type(2**32 - 1), values >> values.dtype.type(32)
    digits[:, 0] = _sum_integers(low.astype(np.int64), runs, rows, count)[0]
    digits[:, 1] = _sum_integers(high.astype(np.int64), runs, rows, count)[0]
    return carried(digits), voxels, least, most


@compiled
def _runs(
    labels: NDArray[Any], start: Integers, stop: Integers
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Return the runs along x of equal labels in the core, without background, and their labels."""
    count = 0
    for z in range(start[0], stop[0]):
        for y in range(start[1], stop[1]):
            before = labels.dtype.type(0)
            for x in range(start[2], stop[2]):
                here = labels[z, y, x]
                if here != before and here != 0:
                    count += 1
                before = here
    runs = np.empty((count, 4), np.int32)
    ids = np.empty(count, labels.dtype)
    count = -1
    for z in range(start[0], stop[0]):
        for y in range(start[1], stop[1]):
            before = labels.dtype.type(0)
            for x in range(start[2], stop[2]):
                here = labels[z, y, x]
                if here != before:
                    if before != 0:
                        runs[count, 3] = x - start[2]
                    if here != 0:
                        count += 1
                        runs[count, 0], runs[count, 1] = z - start[0], y - start[1]
                        runs[count, 2], ids[count] = x - start[2], here
                before = here
            if before != 0:
                runs[count, 3] = stop[2] - start[2]
    return runs, ids


@compiled
def _differing(line: NDArray[Any], own: Any, start: int, stop: int) -> int:
    """Return how many labels of a line differ from ``own``."""
    count = 0
    for x in range(start, stop):
        count += line[x] != own
    return count


@compiled
def _measured(
    labels: NDArray[Any],
    ids: NDArray[Any],
    start: Integers,
    runs: Runs,
    rows: Integers,
    count: int,
) -> tuple[Integers, Integers, Integers, Integers, Integers]:
    """Return sums (voxels, z, y, x, zz, yy, xx, zy, zx, yx), first, last, inner and outer faces."""
    sums = np.zeros((count, 10), np.int64)
    first = np.full((count, 3), 2**62, np.int64)
    last = np.full((count, 3), -1, np.int64)
    inner = np.zeros((count, 3), np.int64)
    outer = np.zeros((count, 3), np.int64)
    depth, height, width = labels.shape
    for run in range(len(rows)):
        row, own = rows[run], ids[run]
        z, y = np.int64(runs[run, 0]), np.int64(runs[run, 1])
        a, b = np.int64(runs[run, 2]), np.int64(runs[run, 3])
        n = b - a
        sum_x = n * (a + b - 1) // 2
        sum_xx = ((b - 1) * b * (2 * b - 1) - (a - 1) * a * (2 * a - 1)) // 6
        products = (n, z * n, y * n, sum_x, z * z * n, y * y * n, sum_xx, z * y * n,
                    z * sum_x, y * sum_x)  # fmt: skip
        for column in range(10):
            sums[row, column] += products[column]
        for axis, low, high in ((0, z, z), (1, y, y), (2, a, b - 1)):
            first[row, axis] = min(first[row, axis], low)
            last[row, axis] = max(last[row, axis], high)
        oz, oy, oa, ob = z + start[0], y + start[1], a + start[2], b + start[2]
        for side in (-1, 1):
            if 0 <= oz + side < depth:
                inner[row, 0] += _differing(labels[oz + side, oy], own, oa, ob)
            else:
                outer[row, 0] += n
            if 0 <= oy + side < height:
                inner[row, 1] += _differing(labels[oz, oy + side], own, oa, ob)
            else:
                outer[row, 1] += n
        for x in (oa - 1, ob):
            if 0 <= x < width:
                inner[row, 2] += labels[oz, oy, x] != own
            else:
                outer[row, 2] += 1
    return sums, first, last, inner, outer


@compiled
def _sum_integers(
    values: NDArray[Any], runs: Runs, rows: Integers, count: int
) -> tuple[Integers, Integers, NDArray[Any], NDArray[Any]]:
    """Return sums (which wrap for 64-bit values), voxels, minima and maxima of integers."""
    sums = np.zeros(count, np.int64)
    voxels = np.zeros(count, np.int64)
    least = np.empty(count, values.dtype)
    most = np.empty(count, values.dtype)
    for run in range(len(rows)):
        row = rows[run]
        line = values[runs[run, 0], runs[run, 1], runs[run, 2] : runs[run, 3]]
        if voxels[row] == 0:
            least[row] = most[row] = line[0]
        low, high, total = least[row], most[row], np.int64(0)
        for value in line:
            low, high = min(low, value), max(high, value)
            total += np.int64(value)
        least[row], most[row] = low, high
        sums[row] += total
        voxels[row] += len(line)
    return sums, voxels, least, most


@compiled
def _sum_floats(
    values: NDArray[np.float32],
    bits: NDArray[np.uint32],
    runs: Runs,
    rows: Integers,
    count: int,
) -> tuple[Integers, Integers, NDArray[np.float32], NDArray[np.float32]]:
    """Return the digits of exact sums, finite voxels, minima and maxima of float32.

    A float32 is m * 2**(p - 149): 23 bits of m, the exponent p + 1 or 0 in 8 bits, the sign.
    """
    digits = np.zeros((count, FLOAT_LIMBS), np.int64)
    voxels = np.zeros(count, np.int64)
    least = np.full(count, np.inf, np.float32)
    most = np.full(count, -np.inf, np.float32)
    for run in range(len(rows)):
        row, z, y = rows[run], runs[run, 0], runs[run, 1]
        for x in range(runs[run, 2], runs[run, 3]):
            word = np.int64(bits[z, y, x])
            exponent = (word >> 23) & 255
            if exponent == 255:
                continue  # NaN or infinite
            mantissa = (word & 0x7FFFFF) + (0x800000 if exponent else 0)
            place = exponent - 1 if exponent else np.int64(0)
            wide = mantissa << (place & 31)
            sign = -1 if word >> 31 else 1
            digits[row, place >> 5] += sign * (wide & 0xFFFFFFFF)
            digits[row, (place >> 5) + 1] += sign * (wide >> 32)
            value = values[z, y, x] + np.float32(0)  # -0.0 becomes 0.0, whatever comes first
            least[row], most[row] = min(least[row], value), max(most[row], value)
            voxels[row] += 1
    return digits, voxels, least, most
