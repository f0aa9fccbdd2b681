"""Runs as many jobs as a profile requests and the run has work for, from its start to its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import ClusterError
from pipeline.base.text import clock_text

from ..clusters.spec import JobSpec
from .batch_system import BatchSystem, LostSubmissionError
from .departure import TOPIC, Departure
from .logs import last_error
from .pool_policy import JobRecord, PoolWorker, next_steps, wanted_jobs, wasted_in_a_row

if TYPE_CHECKING:
    from distributed.deploy.spec import SpecCluster

    from .watchdog import Watchdog

POLL_S = 1.0
QUEUE_S = 5.0
"""How often the queue is read while a job has no worker; six times as long otherwise."""
PAUSES_S = (2.0, 5.0, 15.0, 60.0)
"""After each failure in a row, before the next job is submitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """The jobs of a pool."""

    job: JobSpec
    slots: int
    """Tasks that a job computes at a time."""
    name: str
    """Of the pool; its jobs' workers are called NAME-1, NAME-2, …"""
    render: Callable[[str], str]
    """Returns the script of a job whose worker has this name."""
    logs: Path
    """The folder of the jobs' logs."""


class JobPool(threading.Thread):
    """Every second: observes the jobs, submits missing ones, ends idle ones. A context manager."""

    def __init__(
        self,
        cluster: SpecCluster,
        batch: BatchSystem,
        watchdog: Watchdog,
        *,
        config: PoolConfig,
        report: Callable[[str], None],
        on_failure: Callable[[], None],
    ) -> None:
        """Start nothing yet.

        report: receives lines for the user. on_failure: is called when the pool gives up.
        """
        super().__init__(name="jobs", daemon=True)
        self._cluster, self._batch, self._watchdog = cluster, batch, watchdog
        self._config, self._job = config, config.job
        self._report, self._on_failure = report, on_failure
        self._reported = ""
        self._over = threading.Event()
        self._submitted = 0
        self._failures = 0
        self._next_at = 0.0
        self._queue: dict[str, str] | None = None
        self._queue_at = float("-inf")
        self._idle_since: float | None = None
        self._departure: object = None
        """The last event of TOPIC that was seen. Dask keeps the last 1,000 events."""
        self._uncancelled: list[str] = []
        self._lost: dict[str, str] = {}
        """Marks of submissions that were not answered, and the names of their workers."""
        self._cut_reported = False
        self._tasks = 0
        self.records: tuple[JobRecord, ...] = ()
        self.first_worker = threading.Event()
        self.failure: str | None = None
        """Why it gave up."""
        self.is_too_short = False
        """Whether it gave up because a task takes longer than a job lasts."""

    def __enter__(self) -> JobPool:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.join()  # the watchdog must learn of a job that is being submitted
        if self._lost:
            with suppress(ClusterError):
                self._find_lost()

    def run(self) -> None:
        """Observe and act until the end."""
        while not self._over.is_set():
            try:
                self._observe()
                if self.failure is None:
                    self._act(time.monotonic())
            except ClusterError as error:
                self._submit_failed(str(error))
            except Exception as error:
                if not self._over.is_set() and self._cluster.status.name == "running":
                    self.failure = f"the job pool stopped: {type(error).__name__}: {error}"
            if self.failure is not None:
                self._on_failure()
                return
            self._over.wait(POLL_S)

    def queue_text(self) -> str:
        """Return the state of the jobs in the queue, for the user."""
        if not self.records:
            return "no job submitted"
        queue = self._queue or {}
        texts = [f"job {r.job_id} {queue.get(r.job_id, 'submitted')}" for r in self.records]
        return ", ".join(texts[:4]) + (f" and {len(texts) - 4} more" if len(texts) > 4 else "")

    def _observe(self) -> None:
        workers, self._tasks, events = self._cluster.sync(self._read_scheduler)
        now = time.monotonic()
        without = any(not record.workers for record in self.records)
        if self.records and now - self._queue_at > QUEUE_S * (1 if without else 6):
            self._queue, self._queue_at = self._batch.queued(), now
            self._cancel()
        queue = self._queue
        self.records = tuple(
            record.updated(
                workers, now=now,
                is_queued=None if queue is None or record.submitted_at > self._queue_at
                else record.job_id in queue,
            )
            for record in self.records
        )  # fmt: skip
        if any(record.workers for record in self.records):
            self.first_worker.set()
            self._failures = 0
        self._check_departures(events)

    async def _read_scheduler(self) -> tuple[list[PoolWorker], int, Sequence[tuple[float, Any]]]:
        """Return workers, the number of tasks not done, and departures; on the scheduler's loop."""
        scheduler = self._cluster.scheduler
        workers = [
            PoolWorker(
                name=str(worker.name), address=worker.address, tasks=len(worker.processing),
                is_running=worker.status.name != "closing_gracefully",
            )
            for worker in scheduler.workers.values()
        ]  # fmt: skip
        tasks = sum(worker.tasks for worker in workers)
        left = tasks + len(scheduler.queued) + len(scheduler.unrunnable)
        return workers, left, scheduler.get_events(TOPIC)

    def _check_departures(self, events: Sequence[tuple[float, Any]]) -> None:
        """Look at the departures that were not seen before."""
        if not events or events[-1] is self._departure:
            return
        seen = [number for number, event in enumerate(events, 1) if event is self._departure]
        self._departure = events[-1]
        departures = [Departure.from_event(event) for _, event in events]
        self._check_walltime(departures, new=departures[seen[-1] if seen else 0 :])

    def _check_walltime(self, departures: Sequence[Departure], *, new: Sequence[Departure]) -> None:
        """Report the first task cut at a walltime; give up if tasks do not fit into a job.

        They do not fit if as many workers in a row as there may be at a time finished no task. A
        single one may have been slow.
        """
        walltime, last = clock_text(self._job.walltime_s), departures[-1]
        if wasted_in_a_row(departures) >= max(2, self._job.most * self._job.workers):
            self.is_too_short = True
            self.failure = (
                f"a block did not finish within {last.ran_s:.0f} s, all the time in a job of "
                f"walltime {walltime}: request a longer walltime, or smaller blocks"
            )
            return
        cut_s = max(departure.ran_s for departure in new)
        if cut_s and not self._cut_reported:
            self._cut_reported = True
            self._report(
                f"a block was cut after {cut_s:.0f} s at its job's walltime ({walltime}) and is "
                f"computed again: increase drain_s (now {self._job.margin_s:.0f} s) and the "
                "walltime, so that a job computes many blocks"
            )

    def _act(self, now: float) -> None:
        states = {record.name: record.state(now) for record in self.records}
        ended = [record for record in self.records if states[record.name] == "ended"]
        failed = [record for record in self.records if states[record.name] == "failed"]
        self._drop([*ended, *failed])
        for record in failed:
            self._job_failed(
                f"job {record.job_id} ended before its worker joined: "
                f"{last_error(self._config.logs, record.job_id)}"
            )
        if self.failure is not None:
            return
        wanted = wanted_jobs(
            self._job, tasks=self._tasks, slots=self._config.slots,
            had_worker=self.first_worker.is_set(),
        )  # fmt: skip
        self._note_surplus(wanted, now)
        steps = next_steps(
            self.records, wanted=wanted, job=self._job, idle_since=self._idle_since, now=now
        )
        self._end_idle(steps.end)
        if now >= self._next_at:
            for _ in range(steps.submit):
                self._submit()

    def _note_surplus(self, wanted: int, now: float) -> None:
        active = [r for r in self.records if r.state(now) in ("waiting", "working")]
        if len(active) <= wanted:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now

    def _submit(self) -> None:
        if self._lost:
            self._find_lost()
            return
        self._submitted += 1
        name = f"{self._config.name}-{self._submitted}"
        try:
            job_id = self._batch.submit(self._config.render(name))
        except LostSubmissionError as error:
            self._lost[error.mark] = name
            raise
        self._add(name, job_id)

    def _add(self, name: str, job_id: str) -> None:
        self._watchdog.add(job_id)
        self.records += (JobRecord(name=name, job_id=job_id, submitted_at=time.monotonic()),)

    def _find_lost(self) -> None:
        """Take in the jobs whose submission was not answered, and which did arrive.

        Raises ClusterError while the queue is not known.
        """
        for mark, name in list(self._lost.items()):
            found = self._batch.marked(mark)
            if found is None:
                raise LostSubmissionError(
                    f"squeue does not answer: a job with the comment {mark} may be queued", mark
                )
            del self._lost[mark]
            for job_id in found:
                self._add(name, job_id)

    def _end_idle(self, records: tuple[JobRecord, ...]) -> None:
        """Close the workers of jobs, which end with them; cancel jobs that have none yet."""
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
        """Remove jobs from the pool; cancel what may still run of them."""
        if not records:
            return
        names = {record.name for record in records}
        self.records = tuple(record for record in self.records if record.name not in names)
        self._cancel([record.job_id for record in records])

    def _cancel(self, job_ids: Sequence[str] = ()) -> None:
        """Cancel jobs, and those that could not be cancelled before; the watchdog forgets them.

        Without an answer it is tried again later, and at the end by the watchdog.
        """
        self._uncancelled += job_ids
        if self._uncancelled and self._batch.cancel(self._uncancelled):
            for job_id in self._uncancelled:
                self._watchdog.remove(job_id)
            self._uncancelled = []

    def _job_failed(self, why: str) -> None:
        """Count a job without a worker; give up after several, or if no job is left."""
        self._failures += 1
        none_left = not self.records and not self.first_worker.is_set()
        self._pause(why, give_up=none_left or self._failures >= len(PAUSES_S))

    def _submit_failed(self, why: str) -> None:
        """Count a failed submission; without any job, give up at once or after several."""
        self._failures += 1
        give_up = not self.first_worker.is_set() or self._failures >= len(PAUSES_S)
        self._pause(why, give_up=not self.records and give_up)

    def _pause(self, why: str, *, give_up: bool) -> None:
        """Wait before the next job, or give up."""
        if give_up and not any(record.workers for record in self.records):
            self.failure = why
            return
        pause_s = PAUSES_S[min(self._failures, len(PAUSES_S)) - 1]
        self._next_at = time.monotonic() + pause_s
        if why != self._reported:
            self._report(f"{why}; next attempt in {pause_s:.0f} s")
            self._reported = why
