"""1 inside any object (id > 0), else 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.base.network_outputs import CLASSES, NetworkOutputs

from ...recipe.training_config import LabelConfig
from .rule import Ids, Integers, Learnt, learnt_classes


class Foreground:
    """Objects against background; the weight map separates the objects."""

    class_names: tuple[str, ...] | None = ("background", "object")

    def outputs(self, labels: LabelConfig, *, dims: int) -> NetworkOutputs:
        """Return classes."""
        return CLASSES

    def reach(self, labels: LabelConfig, *, spacing: Sequence[float]) -> tuple[int, ...]:
        """Return 0: a class is that of its voxel."""
        return (0,) * len(spacing)

    def classes(self, stored: Ids, *, dims: int) -> Integers:
        """Return 1 inside objects."""
        return (stored.ids > 0).astype(np.int64)

    def learn(self, stored: Ids, labels: LabelConfig, *, spacing: Sequence[float]) -> Learnt:
        """Return 1 inside objects, and the ids."""
        return learnt_classes(stored, self.classes(stored, dims=len(spacing)), stored.ids)
