"""How long each stage of a run took."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ...ledger.progress import RunStage


class RunClock:
    """Counts the seconds in each stage; stages may be entered again."""

    def __init__(self, stage: RunStage) -> None:
        self.stage = stage
        self._entered = time.monotonic()
        self._seconds: dict[str, float] = {}

    def enter(self, stage: RunStage) -> None:
        """Leave the current stage for another one."""
        self._seconds, self.stage, self._entered = dict(self.seconds), stage, time.monotonic()

    @property
    def seconds(self) -> Mapping[str, float]:
        """Wall time by stage, in the order in which they were first entered."""
        now = self._seconds.get(self.stage, 0.0) + time.monotonic() - self._entered
        return {**self._seconds, self.stage: now}
