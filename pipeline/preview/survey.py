"""How bright and how textured the places of a volume are, from a coarse level or from a sample."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from ..base.geometry import Box, Shape
from ..base.text import counted
from ..volume.image_levels import levels_of
from ..volume.volume import VolumeSource, read_box

COARSE_VALUES: Final = 2**24
"""A level of at most this many values is read completely."""
PLANES, PER_SIDE = 3, 5
"""A sample has boxes in this many planes, and this many along y and along x."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Windows of one box's size, spread over a volume, and grey values that were read of it."""

    starts: NDArray[np.intp]
    """First voxel of each window: (window, z y x), in voxels of the volume."""
    brightness: NDArray[np.float32]
    """Mean grey value per window, over all channels."""
    texture: NDArray[np.float32]
    """Mean difference of neighbours in y and x, per window."""
    values: NDArray[Any]
    """Grey values (c, value), as stored."""
    where: str
    """What was read, for messages."""


def survey_volume(source: VolumeSource, window: Shape) -> Survey:
    """Return a survey with windows of this shape (z, y, x), at most the volume's.

    Reads the finest level of at most ``COARSE_VALUES``, or boxes spread over the volume if all
    levels are larger.
    """
    coarse = _coarse_level(source)
    if coarse is None:
        return _sampled(source, window)
    number, level = coarse
    values_czyx = read_box(level, Box.of_shape(level.shape_zyx))
    brightness, texture = _measures(values_czyx)
    scale = [n / c for n, c in zip(source.shape_zyx, level.shape_zyx, strict=True)]
    size = [
        min(n, max(1, round(w / s))) for n, w, s in zip(level.shape_zyx, window, scale, strict=True)
    ]
    starts = _grid(level.shape_zyx, size)
    centres = tuple((starts + np.array(size) // 2).T)
    last = np.array(source.shape_zyx) - window
    return Survey(
        starts=np.minimum(np.rint(starts * scale).astype(np.intp), last),
        brightness=uniform_filter(brightness, size)[centres],
        texture=uniform_filter(texture, size)[centres],
        values=values_czyx.reshape(len(values_czyx), -1),
        where="the volume" if level == source else f"level {number}",
    )


def _coarse_level(source: VolumeSource) -> tuple[int, VolumeSource] | None:
    """Return the finest level that is small enough, no finer than ``source`` itself."""
    own = math.prod(source.shape_zyx)
    coarser = [
        (number, level)
        for number, level in levels_of(source)
        if math.prod(level.shape_zyx) < own and level.channel_count == source.channel_count
    ]
    fitting = [
        (number, level)
        for number, level in [(0, source), *coarser]
        if level.channel_count * math.prod(level.shape_zyx) <= COARSE_VALUES
    ]
    return max(fitting, key=lambda one: math.prod(one[1].shape_zyx), default=None)


def _grid(shape: Shape, size: list[int]) -> NDArray[np.intp]:
    """Return the starts of windows inside a shape, half a window apart."""
    axes = [
        np.unique([*range(0, n - w + 1, max(1, w // 2)), n - w])
        for n, w in zip(shape, size, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def _measures(values_czyx: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the grey value of each voxel, and its difference from its neighbours in y and x."""
    grey = np.nan_to_num(values_czyx.mean(axis=0, dtype=np.float32))
    texture = np.zeros_like(grey)
    for axis in (1, 2):
        part = [slice(None)] * 3
        part[axis] = slice(1, None)
        texture[tuple(part)] += np.abs(np.diff(grey, axis=axis))
    return grey, texture


def _sampled(source: VolumeSource, window: Shape) -> Survey:
    counts = (PLANES, PER_SIDE, PER_SIDE) if source.shape_zyx[0] > 1 else (1, 8, 8)
    axes = [
        np.unique(np.linspace(0, n - w, count + 2)[1:-1].astype(int))
        for n, w, count in zip(source.shape_zyx, window, counts, strict=True)
    ]
    starts = np.array(list(itertools.product(*axes)))
    brightness, texture, values = [], [], []
    for start in starts.tolist():
        stop = tuple(a + w for a, w in zip(start, window, strict=True))
        values_czyx = read_box(source, Box(tuple(start), stop))
        grey, difference = _measures(values_czyx)
        brightness.append(grey.mean())
        texture.append(difference.mean())
        values.append(values_czyx.reshape(len(values_czyx), -1)[:, ::4])
    return Survey(
        starts=starts,
        brightness=np.array(brightness, np.float32),
        texture=np.array(texture, np.float32),
        values=np.concatenate(values, axis=1),
        where=f"a sample of {counted(len(starts), 'place')}",
    )
