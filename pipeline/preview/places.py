"""Which boxes a preview shows: those that the user names, or three that differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..base.errors import PlanError
from ..base.geometry import Box, Shape, round_up
from ..base.text import shape_text
from ..models.protocol import Predictor
from .survey import Survey

SIDES: Final = (256, 192, 128, 96, 64, 32, 16)
"""Sides of a box along y and x, the preferred one first."""
BOX_FLOPS: Final = 4 * 10**11
"""Most operations of one box: a few seconds on a laptop."""
LONGEST_SIDE: Final = 1024
"""Longest side of a box that the user names, along y and x: what a picture shows."""
WHOLE_FLOPS: Final = 3 * BOX_FLOPS
"""A flat image of at most this many operations is shown whole."""


@dataclass(frozen=True, slots=True)
class Place:
    """One plane of a volume: its name, and its box, which has one voxel along z."""

    name: str
    box: Box
    is_whole: bool = False
    """Whether it is a whole flat image, of which other places are details."""


def box_shape(shape_zyx: Shape, predictor: Predictor, *, memory_bytes: int) -> Shape:
    """Return the shape of one box: the largest whose tile is cheap enough, and fits the memory.

    If none does, the smallest. Of a flat image, at most a third of its longer side: then three
    boxes lie apart from each other, wherever the first of them is.
    """
    depth = predictor.divisor[0]
    for side in SIDES:
        core = (depth, *(round_up(side, d) + d for d in predictor.divisor[1:]))
        if predictor.flops(core) <= BOX_FLOPS and predictor.memory_bytes(core) <= memory_bytes:
            break
    if shape_zyx[0] == 1:
        side = min(side, max(1, max(shape_zyx) // 3))
    return (1, min(side, shape_zyx[1]), min(side, shape_zyx[2]))


def whole_place(shape_zyx: Shape, predictor: Predictor) -> Place | None:
    """Return a flat image as one place, if it can be shown, and is computed in some seconds."""
    core = tuple(round_up(n, d) for n, d in zip(shape_zyx, predictor.divisor, strict=True))
    is_small = max(shape_zyx) <= LONGEST_SIDE and predictor.flops(core) <= WHOLE_FLOPS
    if shape_zyx[0] > 1 or not is_small:
        return None
    return Place("whole image", Box.of_shape(shape_zyx), is_whole=True)


def chosen_places(
    shape_zyx: Shape, window: Shape, survey: Survey, *, whole: Place | None = None
) -> list[Place]:
    """Return the middle, and the brightest and the most textured place apart from the others.

    whole: is returned instead of the middle, where it is not too small for details.

    Places in the same part of the plane are an eighth of the volume's depth apart, because
    neighbouring planes look alike. A small volume has fewer places.
    """
    size = np.array(window)
    apart = np.maximum(size, (shape_zyx[0] // 8, 0, 0))
    if whole is not None and max(shape_zyx) <= SIDES[0]:
        return [whole]
    places: list[Place] = []
    if whole is None:
        places.append(Place("middle", _box((np.array(shape_zyx) - size) // 2, size)))
    for name, measure in (("brightest", survey.brightness), ("most textured", survey.texture)):
        is_free = np.ones(len(survey.starts), bool)
        for place in places:
            is_free &= (np.abs(survey.starts - place.box.start) >= apart).any(axis=1)
        if is_free.any():
            best = np.argmax(np.where(is_free, measure, -np.inf))
            places.append(Place(name, _box(survey.starts[best], size)))
    return places if whole is None else [whole, *places]


def given_places(shape_zyx: Shape, boxes: Sequence[Box]) -> list[Place]:
    """Return the middle plane of each box. Raises PlanError for one that cannot be shown."""
    whole = Box.of_shape(shape_zyx)
    for box in boxes:
        text = ",".join(f"{a}:{b}" for a, b in zip(box.start, box.stop, strict=True))
        if not whole.contains(box) or not box.voxels:
            ends = ",".join(f"0:{size}" for size in shape_zyx)
            raise PlanError(
                f"--box {text}: expected a box of at least one voxel inside the volume, {ends}"
            )
        if max(box.shape[1:]) > LONGEST_SIDE:
            raise PlanError(
                f"--box {text} is {shape_text(box.shape)} voxels: expected at most "
                f"{LONGEST_SIDE} along y and x; a larger part is work for overtile segment"
            )
    return [Place(f"box {number}", _middle_plane(box)) for number, box in enumerate(boxes, 1)]


def _middle_plane(box: Box) -> Box:
    middle = (box.start[0] + box.stop[0] - 1) // 2
    return Box((middle, *box.start[1:]), (middle + 1, *box.stop[1:]))


def _box(start: np.ndarray, size: np.ndarray) -> Box:
    return Box(tuple(start.tolist()), tuple((start + size).tolist()))
