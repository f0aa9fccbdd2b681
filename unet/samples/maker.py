"""From the place of a patch to a sample on the device: read, deform, label, weight.

All random numbers follow from seed, step and number: every rank makes the same sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..network.config import UNetConfig
from ..recipe.training_config import LabelConfig, TrainingConfig
from .augment import augment, margin
from .label_meaning import labels_of
from .rules.registry import RULES, learn
from .rules.rule import Learnt
from .sampling import LabelledVolume, PatchSampler, Place, seed_of
from .target_weights import balanced_weights, known_weights
from .weight_map import weight_map

SEEN_BORDER = 3.0
"""Multiple of sigma up to which border weights include objects beyond a patch's core: for a wider
gap the weight is at most exp(-4.5), 1 % of w0, less than in the whole volume."""
UNKNOWN = -(2**63)
"""Replaces the ignored label, which may be any uint64: torch has no such dtype."""
ATTEMPTS = 12
"""Places and augmentations of a patch that are tried until one has a known voxel."""

Sample: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""The tensors of a batch of one patch."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples for the network: x (n, c, *input), targets and weights as a loss takes them.

    Of classes, both are (n, *output), int64 and float32; of other outputs (n, channel, *output)
    float32.
    """

    x: Tensor
    targets: Tensor
    weights: Tensor
    numbers: tuple[int, ...] = ()
    """Of the patches in their step, as dropout depends on them; by default from 0 on."""

    def __post_init__(self) -> None:
        if not self.numbers:
            object.__setattr__(self, "numbers", tuple(range(len(self.x))))

    def part(self, start: int, stop: int) -> Batch:
        """Return the samples from ``start`` to ``stop``."""
        return Batch(*(getattr(self, field.name)[start:stop] for field in fields(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleMaker:
    """Makes batches. All volumes have the same number of channels and order of axes."""

    volumes: tuple[LabelledVolume, ...]
    network: UNetConfig
    training: TrainingConfig
    labels: LabelConfig
    sampler: PatchSampler
    class_weights: tuple[float, ...]
    weight_scales: tuple[float, ...] | None = None
    """Factor of all weights, by volume: above 1 where labels are sparse (``known_share``)."""
    device: str = "cpu"

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Voxels of a sample whose classes are learnt, in the network's axes."""
        return self.sampler.core[3 - self.network.dims :]

    def label_margin(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """Return the voxels of labels that are made around a core, per axis of the network.

        As far as the label rule looks, and one voxel at least; more for border weights, which
        depend on objects beyond the core. At most the halo, as labels end where the network's
        input does: along an axis without a halo, nothing beyond the core counts.
        """
        training = self.training
        finest = min(spacing)
        border = SEEN_BORDER * training.border_sigma if training.border_weight else 0.0
        reach = RULES[self.labels.rule].reach(self.labels, spacing=spacing)
        return tuple(
            min(halo, max(1, of_rule, math.ceil(border * finest / step)))
            for halo, of_rule, step in zip(self.network.halo, reach, spacing, strict=True)
        )

    def batch(self, step: int, numbers: Sequence[int]) -> Batch:
        """Return the samples of a step that have these numbers."""
        return joined([self.sample(step, number) for number in numbers], numbers)

    def sample(self, step: int, number: int) -> Sample:
        """Return one sample: x (1, c, *input) float32, targets and weights as in a Batch.

        A patch in which nothing is known teaches nothing, so it is drawn again; at a known voxel
        too, as a rotation or deformation can move the voxel out of the patch.
        """
        for attempt in range(ATTEMPTS):
            x, targets, weights = self._drawn(step, number, attempt=attempt)
            if bool(weights.any()):
                break
        return x, targets, weights

    def _drawn(self, step: int, number: int, *, attempt: int) -> Sample:
        """Return the sample of one attempt to draw a patch."""
        place = self.sampler.place(step, number, attempt=attempt)
        scale = self.weight_scales[place.volume] if self.weight_scales else 1.0
        volume = self.volumes[place.volume]
        spacing = volume.spacing_zyx[3 - self.network.dims :]
        raw, stored = self._read(volume, place, spacing)
        margins = self.label_margin(spacing)
        grown = tuple(n + 2 * m for n, m in zip(self.output_shape, margins, strict=True))
        x, labels = augment(
            torch.from_numpy(raw)[None].to(self.device),
            torch.from_numpy(stored)[None].to(self.device),
            input_shape=self.network.input_shape(self.output_shape),
            output_shape=grown,
            config=self.training.augment,
            seeds=[seed_of(self.training.seed, step, number, attempt=attempt)],
            spacing=spacing,
        )
        targets, weights = self._targets_and_weights(
            labels[0].cpu().numpy(), spacing, margins, labels_of(volume, self.labels)
        )
        return x, targets[None].to(self.device), weights[None].to(self.device) * scale

    def _read(
        self, volume: LabelledVolume, place: Place, spacing: Sequence[float]
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return grey values (c, *outer) and labels (*outer), without z for a 2-D network."""
        dims = self.network.dims
        inputs = self.network.input_shape(self.output_shape)
        around = margin(self.training.augment, dims=dims, input_shape=inputs, spacing=spacing)
        before = (0,) * (3 - dims) + tuple(
            halo + more for halo, more in zip(self.network.halo, around, strict=True)
        )
        size = (1,) * (3 - dims) + tuple(n + 2 * m for n, m in zip(inputs, around, strict=True))
        start = tuple(a - b for a, b in zip(place.start, before, strict=True))
        stop = tuple(a + n for a, n in zip(start, size, strict=True))
        raw = volume.read_raw(start, stop)
        stored = volume.read_labels(start, stop)
        labels = stored.astype(np.int64)
        if (ignore := labels_of(volume, self.labels).ignore) is not None:
            labels[stored == ignore] = UNKNOWN
        return (raw, labels) if dims == 3 else (raw[:, 0], labels[0])

    def _targets_and_weights(
        self, labels: np.ndarray[Any, Any], spacing: Sequence[float], margins: Sequence[int],
        meaning: LabelConfig,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return targets and weights of labels that are larger by ``margins`` per side."""
        dims = self.network.dims
        config = meaning if meaning.ignore is None else replace(meaning, ignore=UNKNOWN)
        learnt = learn(labels if dims == 3 else labels[None], config, spacing=spacing)
        core = tuple(slice(m, m + n) for m, n in zip(margins, self.output_shape, strict=True))
        inner: Any = (..., *core) if dims == 3 else (..., 0, *core)
        return (
            torch.from_numpy(np.ascontiguousarray(learnt.targets[inner])),
            torch.from_numpy(np.ascontiguousarray(self._weights(learnt, spacing, inner))),
        )

    def _weights(self, learnt: Learnt, spacing: Sequence[float], inner: Any) -> Any:
        """Return the weights of the targets of a patch, which lie at ``inner``."""
        training = self.training
        if learnt.known is not None:
            targets, known = learnt.targets[inner], learnt.known[inner]
            if training.class_balance and self.labels.rule == "affinities":
                return balanced_weights(targets, known)
            return known_weights(known)
        weights = weight_map(
            learnt.targets,
            learnt.objects if training.border_weight else None,
            class_weights=self.class_weights,
            w0=training.border_weight,
            sigma=training.border_sigma,
            spacing=spacing,
            dims=self.network.dims,
        )
        return weights[inner]


def joined(samples: Sequence[Sample], numbers: Sequence[int]) -> Batch:
    """Return the batch of some samples, which have these numbers."""
    x, targets, weights = (torch.cat(parts) for parts in zip(*samples, strict=True))
    return Batch(x, targets, weights, tuple(numbers))
