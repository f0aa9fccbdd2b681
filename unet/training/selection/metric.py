"""The metrics by which the best validation is chosen, a line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...recipe.training_config import Metric


@dataclass(frozen=True, slots=True)
class Score:
    """How a metric is read from the scores of a validation."""

    words: str
    """Its name in messages."""
    of: Callable[[Mapping[str, Any]], float]
    higher_is_better: bool = True


METRICS: Mapping[Metric, Score] = {
    "mean_iou": Score("mean IoU", lambda scores: float(scores["mean_iou"])),
    "mean_dice": Score("mean Dice", lambda scores: _mean(scores["dice"])),
    "foreground_dice": Score("foreground Dice", lambda scores: _mean(scores["dice"][1:])),
    "pixel_error": Score("pixel error", lambda scores: float(scores["pixel_error"]), False),
    "loss": Score("validation loss", lambda scores: float(scores["loss"]), False),
}
"""By name. Foreground: all classes but 0. A class that occurs neither in the truth nor in the
prediction has a Dice of 1, as in an evaluation."""


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
