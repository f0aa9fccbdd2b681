"""The scores that objects are made from, as integers: of one class, or affinities.

Labels are a function of stored integers. Scores of uint8 and uint16 are used as they are; floats
from 0 to 1 are rounded to one of 65,536 values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...base.errors import VolumeError
from ...base.geometry import Box
from ...volume.volume import VolumeSource, open_volume
from .method import Role


class NotScoresError(VolumeError):
    """Floats that are not scores, which are found when they are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores of one class, or affinities. Small, picklable."""

    source: VolumeSource
    class_name: str
    role: Role
    from_slices: bool = False
    """Whether a 2-D network gave them, which sees every slice alone, to a volume of several."""
    all_classes: VolumeSource | None = None
    """Where only a part was segmented, the scores of all classes: all are 0 outside of it."""
    edge_axes: tuple[int, ...] = ()
    """Of affinities, the axis (0 is z) along which each channel of ``source`` connects a voxel with
    the one before it. Empty for scores of voxels."""

    def is_segmented(self, box: Box) -> NDArray[np.bool_] | None:
        """Return which voxels of a box were segmented; None: all."""
        if self.all_classes is None:
            return None
        segmented: NDArray[np.bool_] = (open_volume(self.all_classes).read(box) != 0).any(axis=0)
        return segmented

    @property
    def highest(self) -> int:
        """The integer that stands for a score of 1."""
        return 255 if self.source.dtype == "uint8" else 65535

    def read(self, box: Box) -> NDArray[Any]:
        """Return the integers (z, y, x) of a box; of affinities, the highest of a voxel's channels.

        Raises NotScoresError for other values.
        """
        weights = self.read_weights(box)
        return weights.max(axis=0) if self.edge_axes else weights

    def read_weights(self, box: Box) -> NDArray[Any]:
        """Return what objects are made from: scores (z, y, x), or affinities (axes, z, y, x).

        Affinities with voxels before the first one of the volume are 0, whatever is stored.
        """
        values: NDArray[Any] = open_volume(self.source).read(box)
        if values.dtype.kind != "u":
            self.check_values(values, box)
            scaled = values.astype(np.float64)
            scaled *= self.highest
            values = np.rint(scaled, out=scaled).astype(np.uint16)
        return self._known(values, box) if self.edge_axes else values[0]

    def _known(self, affinities: NDArray[Any], box: Box) -> NDArray[Any]:
        """Return affinities without those of voxels that have none before them."""
        at_first: list[tuple[int | slice, ...]] = [
            (channel, *(slice(None),) * axis, 0)
            for channel, axis in enumerate(self.edge_axes)
            if box.start[axis] == 0
        ]
        if at_first:
            affinities = affinities.copy()  # what a volume returns may be read-only
        for place in at_first:
            affinities[place] = 0
        return affinities

    def check_values(self, values: NDArray[Any], box: Box | None = None) -> None:
        """Raise NotScoresError for floats that are not from 0 to 1.

        values: (…, z, y, x) of ``box``, or of any shape without it.
        """
        if values.dtype.kind == "u":
            return
        is_score = (values >= 0) & (values <= 1)  # False for NaN
        if is_score.all():
            return
        first = np.argwhere(~is_score)[0]
        place = ""
        if box is not None:
            z, y, x = (first[-3:] + box.start).tolist()
            place = f" at z {z}, y {y}, x {x}"
        raise NotScoresError(
            f"{self.source.location} holds {values[tuple(first)]:g}{place}: expected scores from 0 "
            "to 1 as floats, or as uint8 or uint16"
        )

    def at_least(self, score: float) -> int:
        """Return the lowest integer that is not below a score."""
        return math.ceil(round(score * self.highest, 6))
