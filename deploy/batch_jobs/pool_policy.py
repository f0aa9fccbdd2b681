"""How many jobs there should be, and which should end. Pure: seen and decided, nothing done.

submitted - waiting -- worker came --> working -- a worker drains --> leaving - ended
               |                          |                              ^
               +- left the queue: failed  +- its workers are lost -------+
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from ..clusters.spec import JobSpec

Fate: TypeAlias = Literal["waiting", "working", "leaving", "ended", "failed"]

LOST_S = 30.0
"""A worker that died comes back with its nanny; a job whose workers stay away so long has ended."""
LISTED_S = 5.0
"""A job that was just submitted may not be in the queue's list yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSeen:
    """One worker, as its scheduler knows it."""

    name: str
    address: str
    is_running: bool
    """It takes tasks: it does not drain."""
    tasks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One job that was submitted, and what was seen of it. Moments are of a monotonic clock."""

    name: str
    job_id: str
    submitted_at: float
    workers: tuple[WorkerSeen, ...] = ()
    had_worker: bool = False
    is_leaving: bool = False
    is_queued: bool | None = None
    """Pending or running, says the batch system; None where it says nothing."""
    seen_at: float = 0.0
    """When it had a worker last."""
    busy_at: float = 0.0
    """When one of its workers had a task last; when the first one came, before that."""

    def seen(
        self, workers: Sequence[WorkerSeen], *, is_queued: bool | None, now: float
    ) -> JobRecord:
        """Return the record after one more look."""
        own = tuple(worker for worker in workers if self.owns(worker.name))
        came = bool(own) and not self.had_worker
        return replace(
            self,
            workers=own,
            had_worker=self.had_worker or bool(own),
            is_leaving=self.is_leaving or any(not worker.is_running for worker in own),
            is_queued=is_queued,
            seen_at=now if own else self.seen_at,
            busy_at=now if came or any(worker.tasks for worker in own) else self.busy_at,
        )

    def owns(self, worker: str) -> bool:
        """Return whether a worker of this name is the job's, alone or one of several."""
        return worker == self.name or worker.startswith(f"{self.name}-")

    def fate(self, now: float) -> Fate:
        """Return where the job is on its way."""
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
    """What there is to do."""

    submit: int = 0
    end: tuple[JobRecord, ...] = ()


def wanted_jobs(job: JobSpec, *, tasks: int, slots: int, had_worker: bool) -> int:
    """Return how many jobs there should be.

    tasks: that are not done. slots: tasks that one job takes at a time. had_worker: there was one
    already; until then there is one job at least, for somebody waits for it.
    """
    least = max(job.fewest, 0 if had_worker else 1)
    return min(job.most, max(least, math.ceil(tasks / slots)))


def next_steps(
    records: Sequence[JobRecord], *, wanted: int, job: JobSpec, idle_since: float | None, now: float
) -> Steps:
    """Return how many jobs to submit, and which to end because they have nothing to do.

    Jobs that leave count no more: others take their place while they finish. idle_since: since
    when there were more jobs than wanted; those that wait in the queue end first.
    """
    fates = {record.name: record.fate(now) for record in records}
    active = [record for record in records if fates[record.name] in ("waiting", "working")]
    surplus = len(active) - wanted
    if surplus <= 0:
        return Steps(submit=-surplus)
    if idle_since is None or now - idle_since < job.idle_s:
        return Steps()
    waiting = [record for record in active if fates[record.name] == "waiting"]
    idle = [
        record for record in active
        if fates[record.name] == "working" and now - record.busy_at >= job.idle_s
    ]  # fmt: skip
    return Steps(end=tuple([*waiting[::-1], *idle][:surplus]))
