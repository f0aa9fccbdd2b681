"""How far a run is, for whoever shows it: read when asked for, never pushed by the driving loop."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from distributed import Client

RunStage: TypeAlias = Literal["segment", "pyramid", "done"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is."""

    blocks: int
    done: int
    done_before: int
    """Of ``done``, those that an earlier run of the same job had done."""
    set_aside: int
    voxels: int
    voxels_done: int
    """By this run."""
    seconds: float
    stage: RunStage
    """What the run is at."""
    workers: int
    """How many the cluster has, a few seconds ago; with none, the run waits."""


class WorkerCount:
    """How many workers a cluster has, asked every few seconds, by the thread that shows the run."""

    def __init__(self, client: Client, *, every_s: float = 2.0) -> None:
        self._client = client
        self._every_s = every_s
        self._asked_at = -every_s
        self._count = 1

    def __call__(self) -> int:
        """Return the count of now; the last one known where the scheduler does not answer."""
        due = time.monotonic() - self._asked_at >= self._every_s
        if due and self._client.status == "running":
            with suppress(OSError):  # a scheduler that is lost: the driving loop says so
                self._count = len(self._client.nthreads())
            self._asked_at = time.monotonic()
        return self._count
