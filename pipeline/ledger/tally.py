"""The figures and failures of a run's blocks, counted as they end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from ..base.geometry import Shape
from .block_result import BlockResult
from .figures import Figures
from .throughput import Throughput

GIVE_UP_AFTER = 32
"""Failures for one and the same reason, with no block done: the other blocks would fail too."""


class Tally:
    """What the blocks of a run have added up to. Any thread may use it."""

    def __init__(self, earlier: Figures) -> None:
        """earlier: the figures of earlier runs of the same job."""
        self._earlier = earlier
        self._lock = threading.Lock()
        self._figures = Figures()
        self._throughput = Throughput()
        self._failures: dict[Shape, str] = {}
        self._started = time.monotonic()

    def add(self, results: Iterable[BlockResult], failures: Iterable[tuple[Shape, str]]) -> None:
        """Count blocks that are done, and blocks that failed, each with its reason."""
        with self._lock:
            now_s = time.monotonic() - self._started
            for result in results:
                self._throughput = self._throughput.with_block(
                    start_s=max(0.0, now_s - sum(result.seconds.values())), stop_s=now_s,
                    voxels=result.voxels,
                )  # fmt: skip
                self._figures = self._figures.with_block(result)
                self._failures.pop(result.index, None)
            self._failures.update(failures)

    @property
    def session(self) -> Figures:
        """The figures of this run alone."""
        with self._lock:
            return self._figures.with_seconds(time.monotonic() - self._started)

    @property
    def throughput(self) -> Throughput:
        """Voxels over the time of this run."""
        with self._lock:
            return self._throughput

    @property
    def figures(self) -> Figures:
        """The figures of this run and of earlier runs of the same job."""
        return self._earlier + self.session

    @property
    def failures(self) -> dict[Shape, str]:
        """Blocks that were set aside in this run, with the reason."""
        with self._lock:
            return dict(self._failures)

    def common_failure(self) -> str | None:
        """Return the reason if many blocks failed and all of them for the same one."""
        reasons = list(self.failures.values())
        is_common = len(reasons) >= GIVE_UP_AFTER and len(set(reasons)) == 1
        return reasons[0] if is_common else None
