"""Which coarser levels a volume gets: the pyramid as integers."""

from __future__ import annotations

import math
from collections.abc import Sequence

_LIKE = 1.5  # up to this ratio of voxel sizes, an axis counts as equally fine

Grid = tuple[tuple[int, int, int], tuple[int, int, int]]


def level_grids(
    shape_zyx: Sequence[int], voxel_size_zyx: Sequence[float], *, minimum: int = 256
) -> list[Grid]:
    """Return (factor, shape) of each level in z, y, x, the finest first.

    A level halves each axis that is longer than ``minimum`` voxels and about as fine as the finest
    such axis, so voxels become isotropic in coarser levels. The last level has no axis longer than
    ``minimum``. ``shape`` is ``ceil(volume / factor)``. A voxel of the level covers ``factor``
    voxels of the volume, so its origin is shifted by ``voxel_size * (factor - 1) / 2``.

    >>> level_grids((30, 1000, 1000), (50.0, 4.0, 4.0))
    [((1, 1, 1), (30, 1000, 1000)), ((1, 2, 2), (30, 500, 500)), ((1, 4, 4), (30, 250, 250))]
    """
    factor = [1, 1, 1]
    grids = [_grid(shape_zyx, factor)]
    while True:
        shape = grids[-1][1]
        long = [axis for axis in range(3) if shape[axis] > max(minimum, 1)]
        if not long:
            return grids
        sizes = [size * f for size, f in zip(voxel_size_zyx, factor, strict=True)]
        finest = min(sizes[axis] for axis in long)
        for axis in long:
            factor[axis] *= 2 if sizes[axis] <= _LIKE * finest else 1
        grids.append(_grid(shape_zyx, factor))


def _grid(shape_zyx: Sequence[int], factor: Sequence[int]) -> Grid:
    z, y, x = (math.ceil(size / f) for size, f in zip(shape_zyx, factor, strict=True))
    return (factor[0], factor[1], factor[2]), (z, y, x)


def voxels_of_levels(
    grids: Sequence[Grid],
    step: Sequence[float],
    translation: Sequence[float],
    *,
    origin: Sequence[int] = (0, 0, 0),
) -> tuple[tuple[tuple[float, ...], ...], tuple[tuple[float, ...], ...]]:
    """Return the voxel size and the translation of each level, in z, y, x.

    step, translation: of the volume; a step is negative along an axis that is stored backwards.
    origin: the volume's voxel at which the levels begin.

    >>> voxels_of_levels([((1, 1, 2), (5, 5, 5))], (1.0, 1.0, 0.5), (0.0, 0.0, 0.0))
    (((1.0, 1.0, 1.0),), ((0.0, 0.0, 0.25),))
    """
    factors = [factor for factor, _ in grids]
    sizes = tuple(tuple(v * f for v, f in zip(step, factor, strict=True)) for factor in factors)
    translations = tuple(
        tuple(
            t + v * (o + (f - 1) / 2)
            for t, v, o, f in zip(translation, step, origin, factor, strict=True)
        )
        for factor in factors
    )
    return sizes, translations
