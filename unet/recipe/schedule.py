"""The cycles of a training's learning rate: one, and another for each time it is made longer.

A cycle is the recipe's schedule (one-cycle, cosine, constant) over some steps: (first step, step
after the last). A cycle that begins before the end of the one before cuts it short::

    (0, 2000)      |---------------------|
    (2000, 3000)                         |----------|     made longer, before its end or after
    (800, 3000)            |------------------------|     made longer after it stopped early at 800

So the learning rate is a function of the cycles and the step. Neither depends on when a training
was made longer or how often it was interrupted. New cycles are warm restarts (Loshchilov and
Hutter 2017): at the end of a cycle the learning rate is near 0, and further steps with it would
learn nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from pipeline.base.errors import TrainingError

from .training_config import TrainingConfig

Cycle: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class StepSchedule:
    """The cycles of a training, by their first steps. Raises TrainingError for others."""

    cycles: tuple[Cycle, ...]

    def __post_init__(self) -> None:
        starts = [start for start, _ in self.cycles]
        stops = [stop for _, stop in self.cycles]
        is_growing = all(sorted({*found}) == found for found in (starts, stops))
        if not is_growing or starts[:1] != [0] or any(a >= b for a, b in self.cycles):
            raise TrainingError(
                f"schedule {self.to_json()}: expected cycles [first step, step after the last], "
                "each beyond the one before"
            )

    @classmethod
    def of(cls, training: TrainingConfig) -> StepSchedule:
        """Return the schedule of a training that was not made longer."""
        return cls(((0, training.steps),))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> StepSchedule:
        """Return what a checkpoint's record, or the provenance of weights, states.

        Those of versions that could not make a training longer have one cycle. Raises
        TrainingError.
        """
        steps = record.get("recipe", {}).get("training", {}).get("steps", TrainingConfig().steps)
        stated = record.get("schedule", [[0, steps]])
        if not isinstance(stated, Sequence) or not all(map(_is_cycle, stated)):
            raise TrainingError(f"schedule {stated!r}: expected cycles, two steps each")
        return cls(tuple((start, stop) for start, stop in stated))

    def to_json(self) -> list[list[int]]:
        """Return the cycles as JSON can hold them."""
        return [list(cycle) for cycle in self.cycles]

    @property
    def steps(self) -> int:
        """The last step of all."""
        return self.cycles[-1][1]

    def cycle_at(self, step: int) -> Cycle:
        """Return the cycle of a step, counted from 0; after the last step, the last cycle."""
        return next(cycle for cycle in reversed(self.cycles) if cycle[0] <= step)

    def ends_at(self, step: int) -> bool:
        """Return whether the training, or a cycle of it, ends with so many steps done."""
        return step == self.steps or any(start == step for start, _ in self.cycles[1:])

    def learning_rate_at(self, step: int, training: TrainingConfig) -> float:
        """Return the learning rate of a step, counted from 0."""
        start, stop = self.cycle_at(step)
        if training.steps != stop - start:
            training = replace(training, steps=stop - start)
        return training.learning_rate_at(step - start)

    def longer(self, steps: int, *, done: int, ended_at: int | None = None) -> StepSchedule:
        """Return the schedule of so many steps: unchanged, or with one more cycle.

        The new cycle begins with the last step that was planned, or where the training stopped
        early (``ended_at``). Raises TrainingError for fewer steps than planned; ``done``: steps
        done so far, for the message.
        """
        if steps == self.steps:
            return self
        if steps < self.steps:
            raise TrainingError(
                f"steps ({steps}): this training has done {done} of {self.steps} steps and cannot "
                f"be made shorter; resume with --steps {self.steps}, or more to make it longer"
            )
        start = self.steps if ended_at is None else ended_at
        return StepSchedule((*self.until(start).cycles, (start, steps)))

    def until(self, step: int) -> StepSchedule:
        """Return the cycles that began before so many steps were done."""
        return StepSchedule(tuple(cycle for cycle in self.cycles if cycle[0] < max(1, step)))

    def continues(self, before: StepSchedule) -> bool:
        """Return whether this is an earlier schedule, or that one made longer."""
        return self.cycles[: len(before.cycles)] == before.cycles


def _is_cycle(value: object) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    return all(type(step) is int for step in value)
