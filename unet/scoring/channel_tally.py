"""Scores of channels that are not classes against their targets.

IoU and Dice need a region of each channel: that of the voxels that are hardest to find. Of
affinities these are the pairs that are cut (below 0.5), of centres the surroundings of a centre
(from 0.5 on), of a distance the inner parts of objects (from 0.75 on: deeper than 0.55 s).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.base.network_outputs import OutputsKind

from ..samples.rules.rule import Learnt
from .scores import Scores, mean_of_present, ratios


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Which voxels of a channel the region holds, and what the error is."""

    threshold: float
    is_below: bool = False
    """Whether it holds the scores below the threshold, or those from it on."""
    counts_errors: bool = False
    """Whether the error is the share of voxels on the wrong side; else, the mean difference."""

    def of(self, scores: NDArray[Any]) -> NDArray[np.bool_]:
        """Return the region of scores or targets."""
        above: NDArray[np.bool_] = scores >= self.threshold
        return ~above if self.is_below else above


REGIONS: Final[Mapping[OutputsKind, Region]] = MappingProxyType(
    {
        "affinities": Region(threshold=0.5, is_below=True, counts_errors=True),
        "distance": Region(threshold=0.75),
        "centre": Region(threshold=0.5),
    }
)


class ChannelTally:
    """Sums over the known targets of each channel."""

    def __init__(self, channels: int, kind: OutputsKind) -> None:
        self._region = REGIONS[kind]
        self._sums = np.zeros((6, channels))
        """Voxels, entropy, error, and voxels of the region: true, predicted, both."""

    @property
    def sums(self) -> NDArray[np.float64]:
        """The sums so far."""
        return self._sums.ravel()

    def add(self, truth: Learnt, scores_czyx: NDArray[np.float32]) -> None:
        """Add the known targets of a tile."""
        assert truth.known is not None, "targets that are not classes state which are known"
        for channel, known in enumerate(truth.known):
            target = truth.targets[channel][known].astype(np.float64)
            score = scores_czyx[channel][known]
            inside, found = self._region.of(target), self._region.of(score)
            p = np.clip(score.astype(np.float64), 1e-12, 1 - 1e-12)
            entropy = -(target * np.log(p) + (1 - target) * np.log(1 - p)).sum()
            wrong: Any = np.abs(target - score)
            if self._region.counts_errors:
                wrong = inside != found
            self._sums[:, channel] += (
                len(target), entropy, wrong.sum(), inside.sum(), found.sum(), (inside & found).sum()
            )  # fmt: skip

    def scores(self, sums: NDArray[np.float64]) -> Scores:
        """Return the scores that follow from the sums of all ranks."""
        voxels, entropy, error, truth, predicted, both = sums.reshape(self._sums.shape)
        total = max(1.0, float(voxels.sum()))
        either = truth + predicted - both
        iou = ratios(both, either)
        return Scores(
            loss=float(entropy.sum()) / total,
            pixel_error=float(error.sum()) / total,
            iou=iou,
            dice=ratios(2 * both, truth + predicted),
            mean_iou=mean_of_present(iou, either),
        )
