"""Planes through a volume of any size: which voxels of which level are read for a picture.

An image is a layer with levels, the finest first. A plane shows the same part of all layers. Of
each, the coarsest level is read that has a voxel for every pixel; where that would read too much,
the part is halved, around its middle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from numpy.typing import NDArray

from ..base.geometry import Box, Shape

PlaneName: TypeAlias = Literal["XY", "XZ", "YZ"]

NORMALS: Final[dict[PlaneName, int]] = {"XY": 0, "XZ": 1, "YZ": 2}
"""The axis (of z, y, x) that a plane is perpendicular to."""
_ROWS_AND_COLUMNS: Final[dict[PlaneName, tuple[int, int]]] = {
    "XY": (1, 2), "XZ": (0, 2), "YZ": (0, 1),
}  # fmt: skip
"""The axes that go down and to the right; z always goes down."""
MOST_BYTES: Final = 64 * 2**20
"""Of one layer for one plane, before compression; whole chunks count."""
LONGEST: Final = 8
"""A plane's longer side is at most this many times the shorter one; else it is too thin to see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One resolution of an image. Shapes are (z, y, x)."""

    shape: Shape
    chunk: Shape
    voxel_bytes: int
    """Of all channels."""
    read: Callable[[Box], NDArray[Any]]
    """From a box to (c, z, y, x)."""

    def bytes_of(self, box: Box) -> int:
        """Return the bytes of the chunks that a read of a box decodes."""
        chunks = (
            min(-(-b // c) * c, n) - a // c * c
            for a, b, c, n in zip(box.start, box.stop, self.chunk, self.shape, strict=True)
        )
        return math.prod(chunks) * self.voxel_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """An image: its levels, the finest first, and where voxel 0 of the plan is in the finest."""

    levels: tuple[Level, ...]
    origin: Shape = (0, 0, 0)

    def box_at(self, box: Box, number: int) -> Box:
        """Return the voxels of a level that cover a box of the plan's voxels."""
        moved, finest, level = box.shifted(self.origin), self.levels[0], self.levels[number]
        start, stop = [], []
        for a, b, whole, coarse in zip(
            moved.start, moved.stop, finest.shape, level.shape, strict=True
        ):
            first = min(a * coarse // whole, coarse - 1)
            start.append(first)
            stop.append(min(max(-(-b * coarse // whole), first + 1), coarse))
        for axis, size in enumerate(box.shape):
            stop[axis] = start[axis] + 1 if size == 1 else stop[axis]  # a plane stays one
        return Box(tuple(start), tuple(stop))


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneView:
    """A plane to show: its box in the plan's voxels, the level of each layer, the picture's size.

    ``shape`` is height and width of the picture in pixels, in the volume's own proportions.
    """

    name: PlaneName
    box: Box
    levels: tuple[int, ...]
    shape: tuple[int, int]
    pixel_um: float | None
    """Width of a pixel."""

    @property
    def normal(self) -> int:
        """The axis that the plane is perpendicular to."""
        return NORMALS[self.name]

    @property
    def rows_and_columns(self) -> tuple[int, int]:
        """The axes that go down and to the right."""
        return _ROWS_AND_COLUMNS[self.name]


def planes_of(around: Box) -> tuple[PlaneName, ...]:
    """Return the planes that are worth a picture: of a flat image XY only."""
    return ("XY",) if around.shape[0] == 1 else ("XY", "XZ", "YZ")


def choose_view(
    name: PlaneName,
    layers: Sequence[Layer],
    *,
    around: Box,
    spacing: Sequence[float],
    spacing_um: Sequence[float | None],
    side: int,
    most_bytes: int = MOST_BYTES,
) -> PlaneView | None:
    """Return the plane through the middle of a box, or None where all of it would read too much.

    spacing: size of a voxel in z, y, x, in any unit. side: longest side of a picture in pixels.
    """
    normal = NORMALS[name]
    rows, columns = _ROWS_AND_COLUMNS[name]
    box = _thin(around, normal)
    box = _bounded(box, (rows, columns), spacing)
    while True:
        shape = _displayed(box, (rows, columns), spacing, side)
        levels = [_level(layer, box, (rows, columns), shape, most_bytes) for layer in layers]
        if None not in levels:
            break
        if max(box.shape) <= 64:
            return None
        box = _halved(box, (rows, columns), spacing)
    across_um = spacing_um[columns]
    pixel_um = None if across_um is None else across_um * box.shape[columns] / shape[1]
    return PlaneView(
        name=name, box=box, levels=tuple(one or 0 for one in levels), shape=shape, pixel_um=pixel_um
    )


def _thin(around: Box, normal: int) -> Box:
    start, stop = list(around.start), list(around.stop)
    start[normal] += (around.shape[normal] - 1) // 2
    stop[normal] = start[normal] + 1
    return Box(tuple(start), tuple(stop))


def _middle(box: Box, axis: int, size: int) -> Box:
    """Return the middle of a box along an axis, at least one voxel."""
    start, stop, size = list(box.start), list(box.stop), max(1, size)
    start[axis] += (box.shape[axis] - size) // 2
    stop[axis] = start[axis] + size
    return Box(tuple(start), tuple(stop))


def _bounded(box: Box, axes: tuple[int, int], spacing: Sequence[float]) -> Box:
    """Return the box without the ends of a side that is much longer than the other one."""
    lengths = {axis: box.shape[axis] * spacing[axis] for axis in axes}
    long, short = max(axes, key=lengths.__getitem__), min(axes, key=lengths.__getitem__)
    if lengths[long] <= LONGEST * lengths[short]:
        return box
    return _middle(box, long, round(LONGEST * lengths[short] / spacing[long]))


def _halved(box: Box, axes: tuple[int, int], spacing: Sequence[float]) -> Box:
    """Return the box with its longer side halved, around its middle."""
    long = max(axes, key=lambda axis: box.shape[axis] * spacing[axis])
    if box.shape[long] <= 64:
        long = max(axes, key=lambda axis: box.shape[axis])
    return _middle(box, long, -(-box.shape[long] // 2))


def _displayed(
    box: Box, axes: tuple[int, int], spacing: Sequence[float], side: int
) -> tuple[int, int]:
    """Return height and width in pixels: a pixel per voxel of the finer axis, at most ``side``."""
    lengths = [box.shape[axis] * spacing[axis] for axis in axes]
    per_length = min(side / max(lengths), 1 / min(spacing[axis] for axis in axes))
    height, width = (max(1, round(length * per_length)) for length in lengths)
    return height, width


def _level(
    layer: Layer, box: Box, axes: tuple[int, int], shape: tuple[int, int], most_bytes: int
) -> int | None:
    """Return the coarsest level with a voxel per pixel, or a coarser one that reads little.

    Coarser by a factor of two at most: the picture would be worse than that of a smaller part.
    """
    for strictness in (1.0, 0.5):
        fine = [
            number
            for number in range(len(layer.levels))
            if number == 0
            or all(
                layer.box_at(box, number).shape[axis] >= strictness * min(size, box.shape[axis])
                for axis, size in zip(axes, shape, strict=True)
            )
        ]
        number = fine[-1]
        if layer.levels[number].bytes_of(layer.box_at(box, number)) <= most_bytes:
            return number
    return None
