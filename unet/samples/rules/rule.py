"""What a label rule is: from stored labels to the targets of a network's channels.

A rule sees ids in which unknown voxels are 0 too. It decides what the network's channels are, how
far around a voxel its target looks, and what the weight map separates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import LabelError
from pipeline.base.network_outputs import NetworkOutputs

from ...recipe.training_config import LabelConfig

Integers: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

IGNORED = -100
"""The class of voxels that the loss ignores; torch's default for ``ignore_index``."""
UNKNOWN = -(2**63)
"""The label, in int64, of voxels whose label is unknown, whichever label a recipe ignores."""


@dataclass(frozen=True, slots=True, eq=False)
class Ids:
    """Stored labels (z, y, x) as int64, 0 where unknown, and which voxels are (None: none)."""

    ids: Integers
    unknown: Mask | None = None

    @property
    def known(self) -> Mask:
        """Which voxels are known."""
        return np.ones(self.ids.shape, np.bool_) if self.unknown is None else ~self.unknown


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Learnt:
    """What a network learns of a box of labels.

    targets: of classes (z, y, x) int64, IGNORED where unknown; of other outputs
    (channel, z, y, x) float32 from 0 to 1, 0 where unknown.
    """

    targets: NDArray[Any]
    known: Mask | None = None
    """(channel, z, y, x), which targets are known; None for classes."""
    objects: Integers | None = None
    """The ids that the weight map separates, 0 outside of them; None: no border weights."""


class Rule(Protocol):
    """A label rule. Axes are z, y, x; a 2-D network has two spacings, and each z is an image."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of its classes; None: it has none, or as many as the network."""

    def outputs(self, labels: LabelConfig, *, dims: int) -> NetworkOutputs:
        """Return what the channels of the network are."""

    def reach(self, labels: LabelConfig, *, spacing: Sequence[float]) -> tuple[int, ...]:
        """Return how many voxels beside a voxel its target depends on, per axis of the network."""

    def classes(self, stored: Ids, *, dims: int) -> Integers:
        """Return classes (z, y, x) to count and to sample by; wherever unknown, any."""

    def learn(self, stored: Ids, labels: LabelConfig, *, spacing: Sequence[float]) -> Learnt:
        """Return the targets of every voxel, and which are known."""


def checked_ids(labels: NDArray[Any], *, ignore: int | None) -> Ids:
    """Return stored labels, of any integer dtype, as ids; ``ignore`` marks unknown voxels,
    and so does UNKNOWN in int64.

    Raises LabelError for labels that are not integers, for negative ones other than ``ignore`` and
    for ids from 2**63 on.
    """
    if labels.dtype.kind not in "iub":
        raise LabelError(
            f"labels are {labels.dtype}: expected integers, classes or object ids (0: background)"
        )
    unknown = None
    where = _unknown(labels, ignore=ignore)
    if where is not None and where.any():
        unknown, labels = where, np.where(where, np.zeros((), labels.dtype), labels)
    if labels.size and labels.dtype.kind == "i" and (least := int(labels.min())) < 0:
        raise LabelError(
            f"labels have the negative id {least}: expected ids from 0 on; set ignore to it"
        )
    if labels.size and labels.dtype == np.uint64 and (most := int(labels.max())) >= 2**63:
        raise LabelError(
            f"labels have the id {most}: expected ids below 2**63 = {2**63}; set ignore to it"
        )
    return Ids(labels.astype(np.int64), unknown)


def _unknown(labels: NDArray[Any], *, ignore: int | None) -> Mask | None:
    """Return which labels are unknown, or None: the ignored ones, and those of no place."""
    where: Mask | None = None if ignore is None else labels == ignore
    if labels.dtype == np.int64:
        nowhere = labels == UNKNOWN
        where = nowhere if where is None else where | nowhere
    return where


def learnt_classes(stored: Ids, classes: Integers, objects: Integers | None) -> Learnt:
    """Return classes as targets: IGNORED, and without an object, where unknown."""
    if stored.unknown is not None:
        classes = np.where(stored.unknown, IGNORED, classes)
        objects = None if objects is None else np.where(stored.unknown, 0, objects)
    return Learnt(targets=classes, objects=objects)
