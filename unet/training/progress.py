"""How far a training is: what its last checkpoint states, and where it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..recipe.schedule import StepSchedule
from ..recipe.training_config import Recipe
from .checkpoint import Checkpoint
from .selection.selection import Selection
from .selection.settings import metric_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A training after ``step`` steps; a function of the steps done, so the same on every rank."""

    step: int = 0
    scores: Mapping[str, Any] = field(default_factory=dict)
    """Those of the last validation; empty without one."""
    selection: Selection
    schedule: StepSchedule
    patience: int | None = None

    @classmethod
    def at_start(cls, recipe: Recipe, schedule: StepSchedule | None = None) -> Progress:
        """Return the progress of a training before its first step."""
        return cls(
            selection=Selection(metric=metric_of(recipe)),
            schedule=schedule or StepSchedule.of(recipe.training),
            patience=recipe.training.patience,
        )

    def at(self, checkpoint: Checkpoint) -> Progress:
        """Return the progress of this training at a checkpoint, with the same schedule.

        A version that kept no best weights recorded the last validation only: it is the best one
        if it is of the checkpoint's step, whose weights are in the checkpoint.
        """
        record = checkpoint.record
        scores = record.get("scores", {})
        selection = Selection.from_record(record, metric=self.selection.metric)
        if "selection" not in record and scores.get("step") == checkpoint.step:
            selection = selection.after(scores)
        return replace(self, step=checkpoint.step, scores=scores, selection=selection)

    def longer(self, checkpoint: Checkpoint) -> Progress:
        """Return the progress at a checkpoint, whose schedule is made as long as this one.

        A training that has ended gets a new cycle from its end. Raises TrainingError for fewer
        steps than the checkpoint's schedule has.
        """
        before = replace(self, schedule=StepSchedule.from_record(checkpoint.record)).at(checkpoint)
        schedule = before.schedule.longer(
            self.schedule.steps,
            done=checkpoint.step,
            ended_at=checkpoint.step if before.has_stopped_early else None,
        )
        return replace(before, schedule=schedule)

    def validated(self, scores: Mapping[str, Any]) -> Progress:
        """Return the progress after a validation at this step."""
        since, _ = self.schedule.cycle_at(max(0, self.step - 1))
        return replace(self, scores=scores, selection=self.selection.after(scores, since=since))

    @property
    def has_stopped_early(self) -> bool:
        """Whether too many validations of the current cycle brought no better score."""
        since, _ = self.schedule.cycle_at(self.step)
        is_done = self.step >= self.schedule.steps
        return not is_done and self.selection.has_run_out(self.patience, since=since)

    @property
    def is_over(self) -> bool:
        """Whether there are no more steps to do."""
        return self.step >= self.schedule.steps or self.has_stopped_early

    def to_record(self) -> dict[str, Any]:
        """Return what a checkpoint holds of it, beside the step."""
        return {
            "scores": dict(self.scores),
            "schedule": self.schedule.to_json(),
            "selection": self.selection.to_record(),
            "stopped_early": self.has_stopped_early,
        }
