"""A coarse image of a volume: one of its levels, or means of boxes of voxels."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..base.geometry import Box, Shape
from ..planning.levels import level_grids
from ..volume.formats.image import ZYX
from ..volume.image_levels import levels_of
from ..volume.measure_intensity import boxes_of_share
from ..volume.volume import VolumeSource, read_box

MOST_VOXELS: Final = 2**22
"""Voxels of a coarse image of a volume, per channel."""
MOST_OF_A_PLANE: Final = 2**20
"""The same for a volume of a single plane; a slide of 1024 × 1024 shows tissue well enough."""
_THREADS: Final = min(4, os.cpu_count() or 1)
"""Boxes that are read at once, each of a few million voxels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoarseImage:
    """Means of grey values (c, z, y, x) as float32, and where they are."""

    values_czyx: NDArray[np.float32]
    voxel_size: ZYX
    direction: ZYX
    """-1 along axes that are stored backwards."""
    translation: ZYX
    factor: ZYX
    """Voxels of the volume per voxel of this image."""
    is_rgb: bool
    where: str
    """What was read, for messages."""


def coarse_image(source: VolumeSource, *, is_level_chosen: bool) -> CoarseImage:
    """Return a coarse image of at most ``MOST_VOXELS`` voxels, or ``MOST_OF_A_PLANE``.

    Reads the finest level that is small enough; if all are larger, the smallest one, box by box.
    is_level_chosen: read ``source`` itself. Memory does not grow with the volume, unless one chunk
    of it is large.
    """
    levels = [] if is_level_chosen else [level for _, level in levels_of(source)]
    level = _best([source, *levels])
    factor, shape = _reduction(level)
    values = _means(level, factor, shape)
    ratio = tuple(
        b / a * f for a, b, f in zip(source.voxel_size, level.voxel_size, factor, strict=True)
    )
    # Levels whose origin is not stated are means of voxels, so their centres are shifted.
    is_stated = level.translation != source.translation
    base, size, steps = (
        (level.translation, level.step, factor)
        if is_stated
        else (source.translation, source.step, ratio)
    )
    return CoarseImage(
        values_czyx=values,
        voxel_size=_zyx(v * f for v, f in zip(level.voxel_size, factor, strict=True)),
        direction=level.direction,
        translation=_zyx(t + v * (f - 1) / 2 for t, v, f in zip(base, size, steps, strict=True)),
        factor=_zyx(iter(ratio)),
        is_rgb=level.channel_count == 3 and level.dtype == "uint8",
        where=_where(source, level, factor),
    )


def _most(level: VolumeSource) -> int:
    return MOST_VOXELS if level.shape_zyx[0] > 1 else MOST_OF_A_PLANE


def _best(levels: list[VolumeSource]) -> VolumeSource:
    """Return the largest level that is small enough, else the smallest."""

    def voxels(level: VolumeSource) -> int:
        return math.prod(level.shape_zyx)

    fitting = [level for level in levels if voxels(level) <= _most(level)]
    return max(fitting, key=voxels) if fitting else min(levels, key=voxels)


def _reduction(level: VolumeSource) -> tuple[Shape, Shape]:
    """Return the factor per axis and the shape of the coarse image that is made of a level."""
    grids = level_grids(level.shape_zyx, level.voxel_size, minimum=1)
    return next(grid for grid in grids if math.prod(grid[1]) <= _most(level))


def _means(level: VolumeSource, factor: Shape, shape: Shape) -> NDArray[np.float32]:
    """Return the mean of each box of ``factor`` voxels (c, z, y, x), reading the level once."""
    sums = np.zeros((level.channel_count, *shape), np.float32)
    boxes = boxes_of_share(level.shape_zyx, level.chunk_shape_zyx, 0, 1)

    def read_sums(box: Box) -> NDArray[np.float32]:
        return _sums(read_box(level, box), box, factor)

    with ThreadPoolExecutor(_THREADS) as pool:
        while group := list(itertools.islice(boxes, _THREADS)):
            for box, part in zip(group, pool.map(read_sums, group), strict=True):
                place = (
                    slice(a // f, -(-b // f))
                    for a, b, f in zip(box.start, box.stop, factor, strict=True)
                )
                sums[(slice(None), *place)] += part
    counts = [
        np.minimum(f, n - np.arange(c) * f).astype(np.float32)
        for n, f, c in zip(level.shape_zyx, factor, shape, strict=True)
    ]
    return sums / (counts[0][:, None, None] * counts[1][:, None] * counts[2])


def _sums(values_czyx: NDArray[Any], box: Box, factor: Shape) -> NDArray[np.float32]:
    """Return the sums of a box's voxels in each coarse voxel that it touches."""
    if values_czyx.dtype.kind == "f":
        values_czyx = np.nan_to_num(values_czyx, posinf=0, neginf=0)
    part = values_czyx.astype(np.float32)
    for axis, (start, stop, f) in enumerate(zip(box.start, box.stop, factor, strict=True), 1):
        if f > 1:
            first = [max(0, edge - start) for edge in range(start - start % f, stop, f)]
            part = np.add.reduceat(part, first, axis=axis)
    return part


def _where(source: VolumeSource, level: VolumeSource, factor: Shape) -> str:
    name = "the volume" if level == source else f"level {level.path.rpartition('/')[2]}"
    if math.prod(factor) == 1:
        return name
    return f"means of {'×'.join(map(str, factor))} voxels of {name}"


def _zyx(values: Iterator[float]) -> ZYX:
    z, y, x = values
    return z, y, x
