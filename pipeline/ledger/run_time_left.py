"""The time left of a live run, whichever display asks: terminal, Prefect's artifact, metrics."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from .time_left import TimeLeft

if TYPE_CHECKING:
    from .progress import Progress, RunStage


class RunTimeLeft:
    """Follows one run through its stages; the estimate does not jump. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stage: RunStage | None = None
        self._time_left = TimeLeft()

    def __call__(self, progress: Progress) -> float | None:
        """Return the seconds left of the stage in progress; None before the first estimate."""
        with self._lock:
            now_s, figures = time.monotonic(), progress.figures
            blocks_left = max(0.0, progress.missing - progress.within)
            if progress.stage != self._stage:
                self._stage, self._time_left = progress.stage, TimeLeft()
                at_start = blocks_left + figures.blocks + progress.within
                self._time_left.update(now_s - figures.seconds, at_start)
            return self._time_left.update(now_s, blocks_left, workers=progress.workers or 1)
