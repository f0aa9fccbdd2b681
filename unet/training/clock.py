"""When a training reports, and how fast it is."""

from __future__ import annotations

import time

from .messages import StepsDone

LOG_EVERY_S = 1.0


class StepClock:
    """Speed since the last message: patches per second, and the share of time without samples."""

    def __init__(self, *, batch: int) -> None:
        self._batch = batch
        self._reported_at = 0.0
        self._losses: list[float] = []
        self.restart()

    def restart(self) -> None:
        """Start to measure again, so that validation does not count as training time."""
        self._since = self._mark = time.perf_counter()
        self._waited = 0.0
        self._steps = 0

    def since_step_s(self) -> float:
        """Return the seconds since the last step, or since the restart."""
        return time.perf_counter() - self._mark

    def stepped(self, loss: float, *, waited_s: float) -> None:
        """Record that a step is done, with its loss and how long it waited for its samples."""
        self._waited += waited_s
        self._losses.append(loss)
        self._steps += 1
        self._mark = time.perf_counter()

    def is_report_due(self) -> bool:
        """Return whether the last report is a second old."""
        return time.perf_counter() - self._reported_at >= LOG_EVERY_S

    def message(self, *, step: int, steps: int, rate: float) -> StepsDone:
        """Return the figures of the steps since the last message, and start to measure again."""
        seconds = max(1e-9, time.perf_counter() - self._since)
        patches = self._batch * self._steps / seconds
        share = min(1.0, self._waited / seconds)
        self.restart()
        self._reported_at = self._mark
        losses, self._losses = self._losses, []
        return StepsDone(
            step=step, steps=steps, loss=sum(losses) / len(losses), losses=tuple(losses),
            learning_rate=rate, patches_per_s=patches, wait_share=share,
        )  # fmt: skip
