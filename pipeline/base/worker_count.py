"""The number of workers of a cluster, for progress displays."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client


class WorkerCount:
    """Asks the scheduler for its number of workers, at most every few seconds."""

    def __init__(self, client: Client, *, every_s: float = 2.0) -> None:
        self._client = client
        self._every_s = every_s
        self._asked_at = -every_s
        self._count = 1

    def __call__(self) -> int:
        """Return the count; the last known one where the scheduler does not answer."""
        due = time.monotonic() - self._asked_at >= self._every_s
        if due and self._client.status == "running":
            with suppress(OSError):  # the driving loop reports a lost scheduler
                self._count = len(self._client.nthreads())
            self._asked_at = time.monotonic()
        return self._count
