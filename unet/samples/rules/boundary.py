"""1 where a face neighbour has another id, on both sides, and where the id is 0; else 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.base.network_outputs import CLASSES, NetworkOutputs

from ...recipe.training_config import LabelConfig
from .rule import Ids, Integers, Learnt, Mask, learnt_classes


class Boundary:
    """Boundaries of objects, two voxels wide; objects are what is left of them."""

    class_names: tuple[str, ...] | None = ("inside", "boundary")

    def outputs(self, labels: LabelConfig, *, dims: int) -> NetworkOutputs:
        """Return classes."""
        return CLASSES

    def reach(self, labels: LabelConfig, *, spacing: Sequence[float]) -> tuple[int, ...]:
        """Return 1: a boundary has two sides."""
        return (1,) * len(spacing)

    def classes(self, stored: Ids, *, dims: int) -> Integers:
        """Return 1 at boundaries."""
        return is_boundary(stored, dims=dims).astype(np.int64)

    def learn(self, stored: Ids, labels: LabelConfig, *, spacing: Sequence[float]) -> Learnt:
        """Return 1 at boundaries, and the ids of what is inside of them."""
        boundary = is_boundary(stored, dims=len(spacing))
        return learnt_classes(stored, boundary.astype(np.int64), np.where(boundary, 0, stored.ids))


def is_boundary(stored: Ids, *, dims: int) -> Mask:
    """Return where a known face neighbour has another id, or the id is 0; in-plane for dims 2.

    The array's edge and unknown voxels are not boundary: pass a box that is one voxel larger per
    side, and cut the result, where neighbours outside of it count.
    """
    ids, differs = stored.ids, stored.ids == 0
    for axis in range(ids.ndim - dims, ids.ndim):
        before = (slice(None),) * axis + (slice(None, -1),)
        after = (slice(None),) * axis + (slice(1, None),)
        step = ids[before] != ids[after]
        if stored.unknown is not None:
            step &= ~(stored.unknown[before] | stored.unknown[after])
        differs[before] |= step
        differs[after] |= step
    return differs
