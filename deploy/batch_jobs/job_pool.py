"""Keeps as many jobs as a specification asks for, from the first to the last moment of a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.base.errors import ClusterError
from pipeline.base.text import clock_text

from .batch_system import BatchSystem, end_of_log
from .drain import LEFT_TOPIC
from .pool_policy import JobRecord, WorkerSeen, next_steps, wanted_jobs

if TYPE_CHECKING:
    from pathlib import Path

    from distributed.deploy.spec import SpecCluster

    from ..clusters.spec import JobSpec
    from .watchdog import Guard

LOOK_S = 1.0
ASK_QUEUE_S = 5.0
"""How often the batch system is asked, while a job is without worker; else six times as long."""
IN_VAIN = 0.5
"""A worker did nothing where it ends on its first task and had that for this part of its life. It
may have waited before: it comes while the one before it still finishes."""
PAUSES_S = (2.0, 5.0, 15.0, 60.0)
"""After each failure in a row, before the next job is submitted."""


class Keeper(threading.Thread):
    """Looks every second, submits what is missing, ends what is idle. A context while it runs."""

    def __init__(
        self,
        cluster: SpecCluster,
        batch: BatchSystem,
        guard: Guard,
        *,
        job: JobSpec,
        slots: int,
        render: Callable[[str], str],
        name: str,
        logs: Path,
        tell: Callable[[str], None],
        lost: Callable[[], None],
    ) -> None:
        """Begin nothing yet.

        slots: tasks that a job takes at a time. render: makes the script of a job of this name.
        tell: is given lines for a person. lost: is called once it gives up.
        """
        super().__init__(name="jobs", daemon=True)
        self._cluster, self._batch, self._guard = cluster, batch, guard
        self._job, self._slots, self._render, self._base = job, slots, render, name
        self._logs, self._tell, self._lost = logs, tell, lost
        self._told = ""
        self._told_of_cut = False
        self._over = threading.Event()
        self._count = 0
        self._failures = 0
        self._next_at = 0.0
        self._asked_at = float("-inf")
        self._queue: dict[str, str] | None = None
        self._idle_since: float | None = None
        self.records: tuple[JobRecord, ...] = ()
        self.first_worker = threading.Event()
        self.failure: str | None = None
        """Why it gave up."""
        self.is_too_short = False
        """It gave up because no job is long enough for a task; others would be no longer."""
        self._left = 0
        self._in_vain = 0

    def __enter__(self) -> Keeper:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.join()  # a job that is being submitted must be known to the guard

    def run(self) -> None:
        """Look, decide and do, until the end."""
        while not self._over.is_set():
            try:
                self._look()
                if self.failure is None:
                    self._do(time.monotonic())
            except ClusterError as error:
                self._refused(str(error))
            except Exception as error:
                if not self._over.is_set() and self._cluster.status.name == "running":
                    self.failure = f"the jobs are kept no more: {type(error).__name__}: {error}"
            if self.failure is not None:
                self._lost()
                return
            self._over.wait(LOOK_S)

    def queue_text(self) -> str:
        """Return what the jobs wait for, as a person reads it."""
        if not self.records:
            return "no job is submitted"
        asked = self._queue or {}
        told = [f"job {r.job_id} {asked.get(r.job_id, 'is submitted')}" for r in self.records]
        return ", ".join(told[:4]) + (f" and {len(told) - 4} more" if len(told) > 4 else "")

    def _look(self) -> None:
        workers, self._tasks, left = self._cluster.sync(self._see)
        now = time.monotonic()
        without = any(not record.workers for record in self.records)
        if self.records and now - self._asked_at > ASK_QUEUE_S * (1 if without else 6):
            self._queue, self._asked_at = self._batch.queued(), now
        queue = self._queue
        self.records = tuple(
            record.seen(
                workers, now=now,
                is_queued=None if queue is None or record.submitted_at > self._asked_at
                else record.job_id in queue,
            )
            for record in self.records
        )  # fmt: skip
        if any(record.workers for record in self.records):
            self.first_worker.set()
            self._failures = 0
        self._weigh(left)

    def _weigh(self, left: Sequence[Mapping[str, float]]) -> None:
        """Tell of tasks that were cut at a walltime; give up where they fit into no job.

        So it is where as many workers in a row as there are had one task only, and did not finish
        it. One alone may have been slow.
        """
        new, self._left = left[self._left :], len(left)
        walltime, drain_s = clock_text(self._job.walltime_s), self._job.margin_s
        for one in new:
            ran_s = one["ran_s"]
            in_vain = not one["done"] and ran_s >= IN_VAIN * one["life_s"]
            self._in_vain = self._in_vain + 1 if in_vain else 0
            if self._in_vain >= max(2, self._job.most * self._job.workers):
                self.is_too_short = True
                self.failure = (
                    f"a block ran for {ran_s:.0f} s, all that a job of walltime {walltime} had for "
                    "it, and was not done: ask for a longer walltime, or for smaller blocks"
                )
            elif ran_s and not self._told_of_cut:
                self._told_of_cut = True
                self._tell(
                    f"a block was cut after {ran_s:.0f} s at its job's walltime ({walltime}) and "
                    f"is computed again: take a drain_s that is longer, now {drain_s:.0f} s, and a "
                    "walltime of many blocks"
                )

    async def _see(self) -> tuple[list[WorkerSeen], int, list[Mapping[str, float]]]:
        """Return workers, how many tasks are not done, and who left; on the scheduler's loop."""
        scheduler = self._cluster.scheduler
        workers = [
            WorkerSeen(
                name=str(worker.name), address=worker.address, tasks=len(worker.processing),
                is_running=worker.status.name != "closing_gracefully",
            )
            for worker in scheduler.workers.values()
        ]  # fmt: skip
        tasks = sum(worker.tasks for worker in workers)
        left = [told for _, told in scheduler.get_events(LEFT_TOPIC)]
        return workers, tasks + len(scheduler.queued) + len(scheduler.unrunnable), left

    def _do(self, now: float) -> None:
        fates = {record.name: record.fate(now) for record in self.records}
        ended = [record for record in self.records if fates[record.name] == "ended"]
        failed = [record for record in self.records if fates[record.name] == "failed"]
        self._drop([*ended, *failed])
        for record in failed:
            self._failed(
                f"job {record.job_id} ended before a worker came: "
                f"{end_of_log(self._logs, record.job_id)}"
            )
        if self.failure is not None:
            return
        wanted = wanted_jobs(
            self._job, tasks=self._tasks, slots=self._slots, had_worker=self.first_worker.is_set()
        )
        self._note_surplus(wanted, now)
        steps = next_steps(
            self.records, wanted=wanted, job=self._job, idle_since=self._idle_since, now=now
        )
        self._end_idle(steps.end)
        if now >= self._next_at:
            for _ in range(steps.submit):
                self._submit()

    def _note_surplus(self, wanted: int, now: float) -> None:
        active = [r for r in self.records if r.fate(now) in ("waiting", "working")]
        if len(active) <= wanted:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now

    def _submit(self) -> None:
        self._count += 1
        name = f"{self._base}-{self._count}"
        job_id = self._batch.submit(self._render(name))
        self._guard.watch(job_id)
        self.records += (JobRecord(name=name, job_id=job_id, submitted_at=time.monotonic()),)

    def _end_idle(self, records: tuple[JobRecord, ...]) -> None:
        """Close the workers of jobs, which end with them; cancel those that have none yet."""
        self._drop([record for record in records if not record.workers])
        addresses = [worker.address for record in records for worker in record.workers]
        if not addresses:
            return
        self._cluster.sync(
            self._cluster.scheduler.retire_workers, workers=addresses, close_workers=True
        )
        idle = {record.name for record in records}
        self.records = tuple(
            replace(record, is_leaving=record.is_leaving or record.name in idle)
            for record in self.records
        )

    def _drop(self, records: Sequence[JobRecord]) -> None:
        """Forget jobs; what may still run of them is cancelled."""
        if not records:
            return
        self._batch.cancel([record.job_id for record in records])
        gone = {record.name for record in records}
        self.records = tuple(record for record in self.records if record.name not in gone)
        for record in records:
            self._guard.forget(record.job_id)

    def _failed(self, why: str) -> None:
        """Count a job that brought no worker; give up after several, or where none is left."""
        self._failures += 1
        none_left = not self.records and not self.first_worker.is_set()
        self._pause(why, give_up=none_left or self._failures >= len(PAUSES_S))

    def _refused(self, why: str) -> None:
        """Count a job that could not be submitted; give up where there is none, after a while."""
        self._failures += 1
        in_vain = not self.first_worker.is_set() or self._failures >= len(PAUSES_S)
        self._pause(why, give_up=not self.records and in_vain)

    def _pause(self, why: str, *, give_up: bool) -> None:
        """Wait before the next job, or give up."""
        if give_up and not any(record.workers for record in self.records):
            self.failure = why
            return
        pause_s = PAUSES_S[min(self._failures, len(PAUSES_S)) - 1]
        self._next_at = time.monotonic() + pause_s
        if why != self._told:
            self._tell(f"{why}; the next try is in {pause_s:.0f} s")
            self._told = why
