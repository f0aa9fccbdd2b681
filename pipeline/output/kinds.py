"""The kinds of output, one table: whatever makes, writes, coarsens or shows an output looks it up.

A new kind is one entry here (and its name in :data:`OutputName`, for forms and types).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..base.choices import OutputName

Reduction: TypeAlias = Literal["mean", "majority"]

Stored: TypeAlias = Callable[[NDArray[np.float32], NDArray[np.uint8], str], NDArray[Any]]
"""From scores (class, z, y, x), classes (z, y, x) and a dtype to what an array of it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputKind:
    """What a kind of output is, wherever it is looked at."""

    name: OutputName
    path: str
    """Of its image's group inside the output; ``""`` is the root."""
    per_class: bool
    """Whether it has one channel per class, before the volume's own axes."""
    dtypes: tuple[str, ...]
    """In which it can be stored, the default first."""
    reduction: Reduction
    """How coarser levels are made."""
    is_label: bool
    """Whether it is listed as a label image of the volume."""
    stored: Stored

    def channels(self, classes: int) -> tuple[int, ...]:
        """Return its sizes before the spatial axes."""
        return (classes,) if self.per_class else ()


def _classes(
    scores_czyx: NDArray[np.float32], classes_zyx: NDArray[np.uint8], dtype: str
) -> NDArray[Any]:
    return classes_zyx.astype(dtype, copy=False)


def _probabilities(
    scores_czyx: NDArray[np.float32], classes_zyx: NDArray[np.uint8], dtype: str
) -> NDArray[Any]:
    """Return 0..1 as floats, or 0..255 as uint8, rounded."""
    if np.dtype(dtype) == np.uint8:
        return np.rint(scores_czyx * np.float32(255)).astype(np.uint8)
    return scores_czyx.astype(dtype, copy=False)


OBJECTS_PATH: Final = "labels/objects"
"""Of the image of objects, whose run group lies inside it where a segmentation found them."""

CLASSES = OutputKind(
    name="classes",
    path="labels/classes",
    per_class=False,
    dtypes=("uint8",),
    reduction="majority",
    is_label=True,
    stored=_classes,
)
SCORES = OutputKind(
    name="scores",
    path="",
    per_class=True,
    dtypes=("uint8", "float16", "float32"),
    reduction="mean",
    is_label=False,
    stored=_probabilities,
)
OUTPUT_KINDS: Mapping[str, OutputKind] = MappingProxyType({k.name: k for k in (CLASSES, SCORES)})
