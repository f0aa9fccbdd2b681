"""What a training needs of its volumes; those of ``pipeline.open_labelled`` have it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..samples.sampling import LabelledVolume, Shape


class TrainingVolume(LabelledVolume, Protocol):
    """Grey values and labels of a volume, or of some slices of it."""

    @property
    def volume_name(self) -> str:
        """Name of the whole volume, for messages."""

    @property
    def volume_shape_zyx(self) -> Shape:
        """Size of the whole volume in voxels."""

    @property
    def channel_count(self) -> int:
        """Channels of the grey values."""

    def count_bad_values(
        self, boxes: Sequence[tuple[Sequence[int], Sequence[int]]]
    ) -> tuple[int, int]:
        """Return how many grey values in some boxes are NaN or infinite, and how many there are."""


class TrainingVolumes(Protocol):
    """The volumes of one training; ``pipeline.LabelledVolumes`` is one."""

    @property
    def training(self) -> Sequence[TrainingVolume]:
        """What is trained on."""

    @property
    def validation(self) -> Sequence[TrainingVolume]:
        """What is held out, to validate on."""

    @property
    def normalisation(self) -> Mapping[str, Any]:
        """The record that the weights will state."""

    @property
    def voxel_size_um(self) -> tuple[float | None, float | None, float | None] | None:
        """Voxel size of what is trained on in µm (z, y, x); None if the volumes do not agree."""

    @property
    def voxel_size_lines(self) -> Sequence[str]:
        """The voxel size of each volume and where it is from, as text; one line if all agree."""

    def grown(self, least: Sequence[int]) -> TrainingVolumes:
        """Return the volumes with training boxes of at least so many voxels, if they can grow."""

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know about the labels, a line each."""

    def input_percentiles(self) -> Mapping[str, Sequence[float]] | None:
        """Return percentiles "1", "50", "99" of what is trained on, normalised, per channel."""

    @property
    def is_measured(self) -> bool:
        """Whether the volumes return normalised grey values."""

    def measured(
        self, client: Any = None, *, stop: threading.Event | None = None
    ) -> TrainingVolumes:
        """Return the volumes with their grey values measured, by the workers of a cluster.

        Raises RunError once ``stop`` is set.
        """

    def description(self) -> Mapping[str, Any]:
        """Return what the volumes are, as JSON: the same ones have the same description."""
