"""Any callable as the ranks of torch.distributed, on the workers of a Dask cluster.

All ranks or none: they begin together, and when one is lost all begin again, as many as there are
workers for. The callable saves its state, and finds it again when it is called again.

    attempt 0   rank 0 |------------x          x lost: the other ranks are asked to leave
                rank 1 |------------|
    attempt 1   rank 0      |-----------|      t other tasks wait: all ranks return YIELDED
                rank 1      |-----------t
    attempt 2   rank 0                    |----s          and begin again after their turn
    attempt 3   rank 0                         |-----     s the state was saved: workers that
                rank 1                         |-----       joined meanwhile take ranks, too

Workers that are about to end (a spot node, a job before its walltime) have all ranks save and
begin again without them. Where two runs each hold workers that the other one needs, one of them
withdraws and tries again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import ClusterError, RunError
from pipeline.base.scheduling import LOST_SCHEDULER
from pipeline.base.store_errors import one_line
from pipeline.base.text import counted
from pipeline.base.workers import asking_for_a_worker, workers_of

from .attempt import Attempt
from .channel import DriverChannel
from .limits import RankLimits
from .membership import joinable
from .messages import RankEvent, RankReport, RanksResumed, TurnChanged
from .outcome import Lost, Outcome, Regrouped, Returned, Withdrawn
from .rank import YIELDED, Rank
from .turns import let_others_run
from .workers import RankWorker, running_workers, wait_for_workers

if TYPE_CHECKING:
    from distributed import Client

__all__ = [
    "YIELDED", "Rank", "RankEvent", "RankLimits", "RankReport", "RanksResumed", "TurnChanged",
    "run_ranks",
]  # fmt: skip

WITHDRAWN_S = 1.0
"""How long ranks that withdrew wait before they try again."""


def run_ranks(
    function: Callable[[Rank], Any],
    *,
    client: Client,
    ranks: int | None = None,
    max_ranks: int | None = None,
    message_types: Sequence[type] = (),
    on_event: Callable[[RankEvent], None] | None = None,
    limits: RankLimits | None = None,
    stop: threading.Event | None = None,
) -> list[Any]:
    """Run a callable as ranks, one per worker, until all return; return a result per rank.

    function: picklable. It is called on each rank with torch.distributed initialised, unless it is
    the only rank. It checks ``Rank.should_stop()``, and returns YIELDED if it left for that; if it
    checks ``Rank.should_regroup()`` when its state is saved, workers that join take ranks, too.
    ranks: at first; by default one per running worker. After a loss the run continues with as many
    as there are workers, ``limits.min_ranks`` at least. max_ranks: by default as many as at first.
    message_types: the frozen dataclasses that ranks may report. on_event: called in this thread
    with their reports, with turns, and after each loss. A report with a higher ``step`` than all
    before is progress.
    stop: once set, all ranks are asked to leave; the result is then YIELDED for each.

    Raises what the callable raised on any rank; ClusterError if there are too few workers or other
    tasks hold them; RunError if too many ranks were lost.
    """
    run = _Run(
        function, client, on_event=on_event or (lambda event: None),
        limits=limits or RankLimits(), stop=stop or threading.Event(),
    )  # fmt: skip
    workers = run.first_workers(ranks, max_ranks)
    with DriverChannel(client, message_types) as channel, _scheduler_needed(client):
        return run.until_all_return(channel, workers)


class _Run:
    """The attempts of one call, and the progress that they made."""

    def __init__(
        self,
        function: Callable[[Rank], Any],
        client: Client,
        *,
        on_event: Callable[[RankEvent], None],
        limits: RankLimits,
        stop: threading.Event,
    ) -> None:
        self._function, self._client, self._on_event = function, client, on_event
        self._limits, self._stop = limits, stop
        self._highest_step = self._step_before = float("-inf")
        self._losses = 0
        self._most = 1
        """Ranks at most."""
        self._joined: frozenset[str] = frozenset()
        """Workers that take a rank in this attempt for the first time."""
        self._excluded: set[str] = set()

    def first_workers(self, ranks: int | None, max_ranks: int | None) -> list[RankWorker]:
        """Return a worker for each rank. Raises ClusterError if there are too few in time."""
        least, start_s = self._limits.min_ranks, self._limits.start_s
        counts = [count for count in (least, ranks, max_ranks) if count is not None]
        if least < 1 or counts != sorted(counts):
            raise ClusterError(
                f"ranks={ranks}, min_ranks={least}, max_ranks={max_ranks}: expected 1 or more, and "
                "min_ranks up to ranks, ranks up to max_ranks"
            )
        wanted = ranks or max(least, len(running_workers(self._client)))
        if max_ranks is not None:
            wanted = min(wanted, max_ranks)
        workers = wait_for_workers(self._client, wanted=wanted, within_s=start_s, stop=self._stop)
        if len(workers) < wanted and not self._stop.is_set():
            raise ClusterError(
                f"{wanted} ranks need {wanted} workers, {len(workers)} run after {start_s:.0f} s: "
                "start more workers, or use fewer ranks"
            )
        if len(workers) > 1 and workers[0].address.startswith("inproc://"):
            raise ClusterError(
                f"{len(workers)} ranks need worker processes, these workers are threads of one: "
                "open the cluster with processes, or use one rank"
            )
        are_threads = bool(workers) and workers[0].address.startswith("inproc://")
        self._most = wanted if max_ranks is None or are_threads else max_ranks
        return workers

    def until_all_return(self, channel: DriverChannel, workers: list[RankWorker]) -> list[Any]:
        """Run attempts until all ranks return, the stop is set, or an error ends the run."""
        wanted, number, within_s = len(workers), 0, self._limits.device_s
        begin_by = time.monotonic() + within_s
        while not self._stop.is_set():
            attempt = Attempt(
                self._client, channel, workers, number=number, limits=self._limits,
                begin_by=begin_by, room=self._most - len(workers), excluded=self._excluded,
            )  # fmt: skip
            outcome = self._run(attempt)
            if isinstance(outcome, Returned) and not self._is_turn(outcome):
                return outcome.results
            number += 1
            if isinstance(outcome, Withdrawn):
                self._stop.wait(WITHDRAWN_S)
                continue
            workers, reason = self._next_group(workers, outcome)
            if reason and not self._stop.is_set():
                self._on_event(RanksResumed(attempt=number, world_size=len(workers), reason=reason))
            within_s = self._limits.join_s if self._joined else self._limits.device_s
            begin_by = time.monotonic() + within_s
        return [YIELDED] * wanted

    def _next_group(
        self, workers: list[RankWorker], outcome: Lost | Regrouped | Returned
    ) -> tuple[list[RankWorker], str | None]:
        """Return the workers of the next attempt, and why all start again; None after a turn."""
        joined, self._joined = self._joined, frozenset()
        if isinstance(outcome, Returned):
            self._give_turn(workers)
            return self._workers_again(len(workers), after="after a turn of other tasks"), None
        if isinstance(outcome, Lost):
            if joined and not self._has_progressed():
                self._excluded |= joined
                left = max(self._limits.min_ranks, len(workers) - len(joined))
                return self._workers_again(left, after=outcome.reason), (
                    f"{outcome.reason}, after {counted(len(joined), 'worker')} joined"
                )
            self._count_loss(outcome.reason)
            return self._workers_again(len(workers), after=outcome.reason), outcome.reason
        if outcome.ending:
            reason = f"{counted(len(outcome.ending), 'worker')} left"
            self._count_loss(reason)
            left = max(self._limits.min_ranks, len(workers) - len(outcome.ending))
            return self._workers_again(left, after=reason), reason
        return self._larger_group(workers)

    def _larger_group(self, workers: list[RankWorker]) -> tuple[list[RankWorker], str]:
        """Return the workers, and with them those that can join; and how many these are."""
        own = {worker.address for worker in workers}
        records = workers_of(self._client)
        others = joinable(self._client, records, own=own, excluded=self._excluded)
        group = own | set(others[: self._most - len(workers)])
        found = running_workers(self._client, excluded=self._excluded)
        again = [worker for worker in found if worker.address in group]
        if len(again) < len(workers):
            again = self._workers_again(len(workers), after="while workers joined")
        self._joined = frozenset(worker.address for worker in again) - own
        joined = counted(len(self._joined), "worker")
        return again, f"{joined} joined" if self._joined else "the workers that could join ended"

    def _run(self, attempt: Attempt) -> Outcome:
        """Run one attempt to its end, whatever that is; nothing of it stays on the workers."""
        forced = None
        self._step_before = self._highest_step
        try:
            attempt.start(self._function)
            outcome = attempt.wait(on_report=self._report, stop=self._stop)
        except BaseException as error:
            if not isinstance(error, Exception):  # Ctrl-C: they may save what they have
                attempt.ask_to_leave_and_wait()
            if not isinstance(error, Exception) or not self._joined or self._has_progressed():
                raise
            outcome = Lost(f"the ranks did not start ({one_line(str(error))})")
        finally:
            forced = attempt.end()
            self._excluded |= attempt.without_nanny
        attempt.deliver(self._report)
        if isinstance(outcome, Lost) and forced:
            return Lost(f"{forced} ({outcome.reason})")
        return outcome

    def _has_progressed(self) -> bool:
        """Return whether this attempt reported a higher step than all before."""
        return self._highest_step > self._step_before

    def _is_turn(self, outcome: Returned) -> bool:
        """Return whether all ranks left for other tasks, to begin again later."""
        return outcome.results[0] is YIELDED and not self._stop.is_set()

    def _give_turn(self, workers: list[RankWorker]) -> None:
        """Let other tasks have the devices, for one turn at most."""
        self._on_event(TurnChanged(holder="others"))
        addresses = [worker.address for worker in workers]
        let_others_run(self._client, addresses, turn_s=self._limits.turn_s, stop=self._stop)
        self._on_event(TurnChanged(holder="ranks"))

    def _workers_again(self, wanted: int, *, after: str) -> list[RankWorker]:
        """Return the workers of the next attempt. Raises RunError if there are too few in time."""
        rejoin_s, least = self._limits.rejoin_s, self._limits.min_ranks
        wait = partial(wait_for_workers, self._client, stop=self._stop, excluded=self._excluded)
        workers = wait(wanted=wanted, within_s=rejoin_s)
        if len(workers) < least and self._limits.queue_s > rejoin_s:
            rejoin_s = self._limits.queue_s
            with asking_for_a_worker(self._client):
                workers = wait(wanted=least, within_s=rejoin_s)
        if len(workers) < least and not self._stop.is_set():
            raise RunError(
                f"{len(workers)} of {least} workers are left after {rejoin_s:.0f} s ({after}): "
                "start the run again to resume when there are enough"
            )
        return workers

    def _count_loss(self, reason: str) -> None:
        self._losses = 1 if self._has_progressed() else self._losses + 1
        if self._losses >= self._limits.max_losses:
            raise RunError(
                f"stopped after {self._losses} losses in a row without progress (the last: "
                f"{reason}): check that the workers have enough memory for a rank, then start the "
                "run again to resume"
            )

    def _report(self, report: RankReport) -> None:
        step = getattr(report.payload, "step", None)
        if isinstance(step, (int, float)):
            self._highest_step = max(self._highest_step, step)
        self._on_event(report)


@contextmanager
def _scheduler_needed(client: Client) -> Iterator[None]:
    """Raise RunError, in one line, when the scheduler was lost, whatever call failed."""
    try:
        yield
    except OSError as error:  # distributed's CommClosedError is one
        if client.status == "running":
            raise
        raise RunError(LOST_SCHEDULER) from error
