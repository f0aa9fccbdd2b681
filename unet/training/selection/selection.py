"""The best validation so far, and how many came after it; the same on every rank."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...recipe.training_config import Metric
from .metric import METRICS


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The best validation by a metric. Of equal scores the earliest wins, and NaN never does."""

    metric: Metric = "mean_iou"
    best: Mapping[str, Any] | None = field(default=None, hash=False)
    """Scores of the best validation, with their ``step``; None before the first."""
    validated_at: int = 0
    """Step of the last validation."""
    without_better: int = 0
    """Validations after the best one, or since the current cycle of the schedule began."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any], *, metric: Metric) -> Selection:
        """Return what a checkpoint's record states; nothing for one without a validation."""
        return cls(metric=metric, **record.get("selection", {}))

    def to_record(self) -> dict[str, Any]:
        """Return what a checkpoint holds, as JSON; the recipe states the metric."""
        return {
            "best": dict(self.best) if self.best is not None else None,
            "validated_at": self.validated_at,
            "without_better": self.without_better,
        }

    @property
    def step(self) -> int | None:
        """Steps of the best weights; None without a validation."""
        return None if self.best is None else int(self.best["step"])

    @property
    def score(self) -> float | None:
        """The best score; None without a validation."""
        return None if self.best is None else self.score_of(self.best)

    def score_of(self, scores: Mapping[str, Any]) -> float:
        """Return the metric of a validation's scores."""
        return METRICS[self.metric].of(scores)

    def after(self, scores: Mapping[str, Any], *, since: int = 0) -> Selection:
        """Return the selection after a validation.

        scores: with their ``step``. since: first step of the current cycle of the schedule; the
        validations before it do not count as ones without a better score.
        """
        step = int(scores["step"])
        if self._is_better(self.score_of(scores)):
            return replace(self, best=dict(scores), validated_at=step, without_better=0)
        before = self.without_better if self.validated_at > since else 0
        return replace(self, validated_at=step, without_better=before + 1)

    def has_run_out(self, patience: int | None, *, since: int = 0) -> bool:
        """Return whether so many validations of the current cycle brought no better score."""
        if patience is None or self.validated_at <= since:
            return False
        return self.without_better >= patience

    def _is_better(self, score: float) -> bool:
        best = self.score
        if best is None or math.isnan(score):
            return not math.isnan(score)
        return score > best if METRICS[self.metric].higher_is_better else score < best
