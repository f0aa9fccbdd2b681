"""What a training learns from: class shares, and how often it sees each voxel. Pure."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

from ...samples.sampling import Shape, Survey


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Counts of voxels in the labels of the training, and of patches."""

    class_counts: tuple[int, ...]
    """Known voxels of each class, in the cells that were surveyed; of networks that learn no
    classes inside and boundary."""
    surveyed: int
    """Voxels of these cells, known or not."""
    known_share: float
    """Share of the voxels of all volumes whose class is known."""
    is_sparse: bool
    """Whether patches are drawn where labels are known, as these are few."""
    voxels: int
    """Of all volumes."""
    patch_voxels: int
    """Voxels that one patch learns."""
    patches: int
    """All that the training takes, over all steps."""

    @property
    def is_exact(self) -> bool:
        """Whether the survey has read every voxel; that of a large volume reads a part."""
        return self.surveyed == self.voxels

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of each class in the known voxels; they add up to 1."""
        known = sum(self.class_counts)
        return tuple(count / known for count in self.class_counts)

    @property
    def patches_per_epoch(self) -> float:
        """Patches that have as many voxels as all volumes."""
        return self.voxels / self.patch_voxels

    @property
    def epochs(self) -> float:
        """How many times the training takes as many voxels as all volumes have."""
        return self.patches / self.patches_per_epoch


def statistics_of(
    shapes: Sequence[Shape], surveys: Sequence[Survey], *, core: Shape, patches: int
) -> Statistics:
    """Return the statistics of a training.

    shapes, surveys: one per volume (z, y, x). core: voxels (z, y, x) that a patch learns.
    """
    cells = [cell for survey in surveys for cell in survey.cells]
    sizes = [math.prod(shape) for shape in shapes]
    return Statistics(
        class_counts=tuple(map(sum, zip(*(survey.counts for survey in surveys), strict=True))),
        surveyed=sum(
            math.prod(stop - start for start, stop in zip(cell.start, cell.stop, strict=True))
            for cell in cells
        ),
        known_share=sum(map(operator.mul, (one.known_share for one in surveys), sizes))
        / sum(sizes),
        is_sparse=any(survey.is_sparse for survey in surveys),
        voxels=sum(sizes),
        patch_voxels=math.prod(core),
        patches=patches,
    )
