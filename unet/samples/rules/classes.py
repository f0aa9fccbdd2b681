"""Labels are the classes. (ISBI 2012: 1 membrane, 0 cell.)"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from pipeline.base.network_outputs import CLASSES, NetworkOutputs

from ...recipe.training_config import LabelConfig
from .rule import Ids, Integers, Learnt, Mask, learnt_classes


class Classes:
    """The stored labels themselves; objects are the connected parts of ``object_class``."""

    class_names: tuple[str, ...] | None = None

    def outputs(self, labels: LabelConfig, *, dims: int) -> NetworkOutputs:
        """Return classes."""
        return CLASSES

    def reach(self, labels: LabelConfig, *, spacing: Sequence[float]) -> tuple[int, ...]:
        """Return 0: a class is that of its voxel."""
        return (0,) * len(spacing)

    def classes(self, stored: Ids, *, dims: int) -> Integers:
        """Return the labels."""
        return stored.ids

    def learn(self, stored: Ids, labels: LabelConfig, *, spacing: Sequence[float]) -> Learnt:
        """Return the labels, and as objects the face-connected components of ``object_class``."""
        objects = None
        if labels.object_class is not None:
            objects = components(stored.ids == labels.object_class, dims=len(spacing))
        return learnt_classes(stored, stored.ids, objects)


def components(mask: Mask, *, dims: int) -> Integers:
    """Number the face-connected components from 1 on; for ``dims`` 2 of each slice separately."""
    faces = ndimage.generate_binary_structure(mask.ndim, 1)
    if dims < mask.ndim:
        faces[[0, 2]] = False
    numbered, _ = ndimage.label(mask, structure=faces)
    return numbered.astype(np.int64)
