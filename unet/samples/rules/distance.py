"""The signed distance to the surface of objects, squashed: one channel from 0 to 1.

``(1 + tanh(d / s)) / 2``, with d the distance in voxels, positive inside an object and negative
outside (Heinrich et al. 2018, "Synaptic cleft segmentation in non-isotropic volume electron
microscopy", whose score from -1 to 1 is moved to 0 to 1 here). 0.5 is the surface. Objects that
touch are apart where the distance has a valley.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.base.network_outputs import NetworkOutputs

from ...recipe.training_config import LabelConfig
from .boundary import is_boundary
from .object_boxes import images_of, numbered, object_boxes, steps_of
from .rule import Ids, Integers, Learnt, Mask

SCALE: Final = 5.0
"""s, in voxels of the finest axis, where the recipe states none."""
LONGEST: Final = 3.0
"""Multiple of s at which a distance ends: there the score is 0.998."""


class Distance:
    """How deep inside an object a voxel is, or how far outside of all."""

    class_names: tuple[str, ...] | None = None

    def outputs(self, labels: LabelConfig, *, dims: int) -> NetworkOutputs:
        """Return one channel, the distance."""
        return NetworkOutputs(kind="distance")

    def reach(self, labels: LabelConfig, *, spacing: Sequence[float]) -> tuple[int, ...]:
        """Return the longest distance along each axis."""
        longest = LONGEST * (labels.scale or SCALE)
        return tuple(int(np.ceil(longest / step)) for step in steps_of(spacing))

    def classes(self, stored: Ids, *, dims: int) -> Integers:
        """Return 1 at boundaries and in background."""
        return is_boundary(stored, dims=dims).astype(np.int64)

    def learn(self, stored: Ids, labels: LabelConfig, *, spacing: Sequence[float]) -> Learnt:
        """Return the squashed distance of each voxel.

        Distances are between centres of voxels: inside to the nearest voxel that is not of the
        object, outside to the nearest one of any. Unknown where the end of the box, or a voxel that
        is not known, is as near as what was found: the distance may be shorter.
        """
        scale, dims = labels.scale or SCALE, len(spacing)
        steps, longest = steps_of(spacing), LONGEST * scale
        squashed, known = [], []
        for ids, unknown in images_of(stored, dims=dims):
            signed = signed_distance(ids, steps=steps)
            far = np.minimum(np.abs(signed), longest)
            seen = _to_unknown(unknown, steps=steps)
            edge = _to_the_edge(ids.shape, steps=steps)
            end = np.minimum(seen, edge)
            is_exact = (far < end) | (end >= longest)
            squashed.append(0.5 + 0.5 * np.tanh(np.sign(signed) * far / scale))
            known.append(is_exact & ~unknown)
        shape = (1, *stored.ids.shape)
        known_zyx = np.stack(known).reshape(shape)
        targets = np.stack(squashed).reshape(shape).astype(np.float32)
        return Learnt(targets=np.where(known_zyx, targets, np.float32(0)), known=known_zyx)


def signed_distance(ids: Integers, *, steps: Sequence[float]) -> NDArray[np.float64]:
    """Return the distance to the nearest voxel of another id inside objects, negative outside.

    steps: size of a voxel per axis. Infinite where there is no such voxel.
    """
    numbers = numbered(ids)
    distance = np.full(ids.shape, -np.inf)
    if (numbers > 0).any():
        distance = -ndimage.distance_transform_edt(numbers == 0, sampling=steps)
    for number, box in object_boxes(numbers, margin=1):
        inside = numbers[box] == number
        distance[box][inside] = _depth(inside, steps=steps)[inside]
    return distance


def _depth(inside: Mask, *, steps: Sequence[float]) -> Any:
    """Return the distance to the nearest voxel that is not inside; infinite without one."""
    if inside.all():
        return np.full(inside.shape, np.inf)
    return ndimage.distance_transform_edt(inside, sampling=steps)


def _to_unknown(unknown: Mask, *, steps: Sequence[float]) -> Any:
    return _depth(~unknown, steps=steps)


def _to_the_edge(shape: Sequence[int], *, steps: Sequence[float]) -> NDArray[np.float64]:
    """Return the distance to the nearest voxel outside of the array."""
    nearest = np.full(tuple(shape), np.inf)
    for axis, (size, step) in enumerate(zip(shape, steps, strict=True)):
        place = np.arange(size)
        line = np.minimum(place + 1, size - place) * step
        nearest = np.minimum(nearest, line.reshape(-1, *(1,) * (len(shape) - 1 - axis)))
    return nearest
