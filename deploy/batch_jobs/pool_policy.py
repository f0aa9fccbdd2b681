"""How many jobs there should be, and which of them should end. Pure: decisions without actions.

submitted - waiting -- its worker joins --> working -- a worker drains --> leaving - ended
               |                               |                             ^
               +- left the queue: failed       +- its workers are lost ------+
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from ..clusters.spec import JobSpec
from .departure import Departure

JobState: TypeAlias = Literal["waiting", "working", "leaving", "ended", "failed"]

LOST_S = 30.0
"""The nanny restarts a worker that died; a job without workers for this long has ended."""
LISTED_S = 5.0
"""A job that was just submitted may not be listed in the queue yet."""
WASTED = 0.5
"""A worker was wasted if its first task ran for this fraction of its life and did not finish. The
task may have started late: a worker joins while the one that it replaces is still computing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolWorker:
    """One worker, as its scheduler lists it."""

    name: str
    address: str
    is_running: bool
    """Whether it accepts tasks; a draining worker does not."""
    tasks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One submitted job, and what was observed of it. Times are of a monotonic clock."""

    name: str
    job_id: str
    submitted_at: float
    workers: tuple[PoolWorker, ...] = ()
    had_worker: bool = False
    is_leaving: bool = False
    is_queued: bool | None = None
    """Whether the batch system lists it as pending or running; None if unknown."""
    seen_at: float = 0.0
    """When it last had a worker."""
    busy_at: float = 0.0
    """When one of its workers last had a task; before that, when its first worker joined."""

    def updated(
        self, workers: Sequence[PoolWorker], *, is_queued: bool | None, now: float
    ) -> JobRecord:
        """Return the record after another observation of all workers."""
        own = tuple(worker for worker in workers if self.owns(worker.name))
        joined = bool(own) and not self.had_worker
        return replace(
            self,
            workers=own,
            had_worker=self.had_worker or bool(own),
            is_leaving=self.is_leaving or any(not worker.is_running for worker in own),
            is_queued=is_queued,
            seen_at=now if own else self.seen_at,
            busy_at=now if joined or any(worker.tasks for worker in own) else self.busy_at,
        )

    def owns(self, worker: str) -> bool:
        """Return whether a worker of this name belongs to the job, alone or as one of several."""
        return worker == self.name or worker.startswith(f"{self.name}-")

    def state(self, now: float) -> JobState:
        """Return the job's state."""
        if not self.workers:
            if self.is_queued is False and now - self.submitted_at > LISTED_S:
                return "ended" if self.had_worker else "failed"
            if self.had_worker and now - self.seen_at > LOST_S:
                return "ended"
        if self.is_leaving:
            return "leaving"
        return "working" if self.had_worker else "waiting"


@dataclass(frozen=True, slots=True)
class Steps:
    """What the pool does next."""

    submit: int = 0
    end: tuple[JobRecord, ...] = ()


def wanted_jobs(job: JobSpec, *, tasks: int, slots: int, had_worker: bool) -> int:
    """Return how many jobs there should be.

    tasks: not done yet. slots: tasks that one job computes at a time. had_worker: whether a worker
    has joined before; until then at least one job is needed, because the run waits for it.
    """
    least = max(job.fewest, 0 if had_worker else 1)
    return min(job.most, max(least, math.ceil(tasks / slots)))


def next_steps(
    records: Sequence[JobRecord], *, wanted: int, job: JobSpec, idle_since: float | None, now: float
) -> Steps:
    """Return how many jobs to submit, and which idle ones to end.

    Leaving jobs do not count, so others replace them while they finish. idle_since: when the number
    of jobs last began to exceed ``wanted``. Jobs that wait in the queue end first.
    """
    states = {record.name: record.state(now) for record in records}
    active = [record for record in records if states[record.name] in ("waiting", "working")]
    surplus = len(active) - wanted
    if surplus <= 0:
        return Steps(submit=-surplus)
    if idle_since is None or now - idle_since < job.idle_s:
        return Steps()
    waiting = [record for record in active if states[record.name] == "waiting"]
    idle = [
        record for record in active
        if states[record.name] == "working" and now - record.busy_at >= job.idle_s
    ]  # fmt: skip
    return Steps(end=tuple([*waiting[::-1], *idle][:surplus]))


def wasted_in_a_row(departures: Sequence[Departure]) -> int:
    """Return how many of the last workers in a row left without finishing a single task."""
    row = 0
    for departure in reversed(departures):
        if departure.tasks_done or departure.ran_s < WASTED * departure.life_s:
            break
        row += 1
    return row
