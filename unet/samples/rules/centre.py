"""A peak at the centre of each object: one channel from 0 to 1.

``exp(-r**2 / (2 sigma**2))`` with r the distance to the object's centre (Zhou et al. 2019, "Objects
as points"; Cheng et al. 2020, "Panoptic-DeepLab"), inside the object alone and 0 in background: so
it does not depend on objects beyond the box. The centre is the object's voxel that is nearest to
its mean position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.base.network_outputs import NetworkOutputs

from ...recipe.training_config import LabelConfig
from .boundary import is_boundary
from .object_boxes import images_of, numbered, object_boxes, steps_of
from .rule import Ids, Integers, Learnt, Mask

SIGMA: Final = 3.0
"""In voxels of the finest axis, where the recipe states none."""
REACH: Final = 32.0
"""In voxels of the finest axis: objects up to this far beyond a patch are seen whole."""


class Centre:
    """Where the middle of an object is."""

    class_names: tuple[str, ...] | None = None

    def outputs(self, labels: LabelConfig, *, dims: int) -> NetworkOutputs:
        """Return one channel, the centres."""
        return NetworkOutputs(kind="centre")

    def reach(self, labels: LabelConfig, *, spacing: Sequence[float]) -> tuple[int, ...]:
        """Return 32 voxels of the finest axis: what is cut off there is unknown."""
        return tuple(int(np.ceil(REACH / step)) for step in steps_of(spacing))

    def classes(self, stored: Ids, *, dims: int) -> Integers:
        """Return 1 at boundaries and in background."""
        return is_boundary(stored, dims=dims).astype(np.int64)

    def learn(self, stored: Ids, labels: LabelConfig, *, spacing: Sequence[float]) -> Learnt:
        """Return the peaks.

        An object is a face-connected part of an id. One that reaches the end of the box, or has a
        face neighbour that is not known, may be larger than what is seen: it is unknown as a whole.
        """
        steps, sigma = steps_of(spacing), labels.scale or SIGMA
        peaks, cut = [], []
        for ids, unknown in images_of(stored, dims=len(spacing)):
            heat, is_cut = _peaks(ids, unknown, steps=steps, sigma=sigma)
            peaks.append(heat)
            cut.append(is_cut | unknown)
        shape = (1, *stored.ids.shape)
        return Learnt(targets=np.stack(peaks).reshape(shape), known=~np.stack(cut).reshape(shape))


def _peaks(
    ids: Integers, unknown: Mask, *, steps: Sequence[float], sigma: float
) -> tuple[NDArray[np.float32], Mask]:
    """Return the peaks of objects that are seen whole, and the voxels of the others."""
    numbers, heat = numbered(ids), np.zeros(ids.shape, np.float32)
    is_cut = np.zeros(ids.shape, np.bool_)
    beside = _beside_the_end(unknown)
    for number, box in object_boxes(numbers, margin=0):
        parts, count = ndimage.label(numbers[box] == number)
        for part in range(1, count + 1):
            inside = parts == part
            if (inside & beside[box]).any():
                is_cut[box] |= inside
            else:
                heat[box][inside] = _peak(inside, steps=steps, sigma=sigma)
    return heat, is_cut


def _beside_the_end(unknown: Mask) -> Mask:
    """Return which voxels have a face neighbour that is unknown, or outside of the array."""
    ends = np.pad(unknown, 1, constant_values=True)
    return ndimage.binary_dilation(ends)[(slice(1, -1),) * unknown.ndim]


def _peak(inside: Mask, *, steps: Sequence[float], sigma: float) -> NDArray[np.float64]:
    """Return the peak at the voxels of an object."""
    places = np.argwhere(inside) * np.asarray(steps)
    centre = places[np.square(places - places.mean(axis=0)).sum(axis=1).argmin()]
    return np.exp(-np.square(places - centre).sum(axis=1) / (2 * sigma**2))
