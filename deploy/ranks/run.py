"""Any callable as the ranks of torch.distributed, on the workers of a Dask cluster.

All ranks or none: they begin together, and when one is lost all begin again, as many as there are
workers for. The callable saves its own state, and finds it again when it is called again.

    attempt 0   rank 0 |------------x          x lost: the other ranks are asked to leave
                rank 1 |------------|
    attempt 1   rank 0      |-----------|      t other tasks wait: all ranks return YIELDED
                rank 1      |-----------t
    attempt 2   rank 0                    ...  and begin again after the other tasks' turn

Where two runs each hold workers that the other one needs, one of them withdraws and tries again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import ClusterError, RunError
from pipeline.base.scheduling import LOST_SCHEDULER

from .attempt import Attempt, Lost, Outcome, RankLimits, Returned, Withdrawn
from .channel import DriverChannel
from .messages import RankEvent, RankReport, RanksResumed, TurnChanged
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
    min_ranks: int = 1,
    message_types: Sequence[type] = (),
    on_event: Callable[[RankEvent], None] | None = None,
    limits: RankLimits | None = None,
    stop: threading.Event | None = None,
) -> list[Any]:
    """Run a callable as ranks, one per worker, until all return; return a result per rank.

    function: picklable. It is called on each rank with torch.distributed initialised, unless it is
    the only rank. It checks ``Rank.should_stop()``, and returns YIELDED if it left for that.
    ranks: by default one per running worker. After a loss the run continues with as many as there
    are workers, ``min_ranks`` at least.
    message_types: the frozen dataclasses that ranks may report. on_event: called in this thread
    with their reports, with turns, and after each loss. A report with a higher ``step`` than all
    before is progress.
    stop: once set, all ranks are asked to leave; the result is then YIELDED for each.

    Raises what the callable raised on any rank; ClusterError if there are too few workers or other
    tasks hold them; RunError if too many ranks were lost.
    """
    run = _Run(
        function, client, on_event=on_event or (lambda event: None), min_ranks=min_ranks,
        limits=limits or RankLimits(), stop=stop or threading.Event(),
    )  # fmt: skip
    workers = run.first_workers(ranks)
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
        min_ranks: int,
        limits: RankLimits,
        stop: threading.Event,
    ) -> None:
        self._function, self._client, self._on_event = function, client, on_event
        self._min_ranks, self._limits, self._stop = min_ranks, limits, stop
        self._highest_step = self._step_before = float("-inf")
        self._losses = 0
        self._excluded: set[str] = set()

    def first_workers(self, ranks: int | None) -> list[RankWorker]:
        """Return a worker for each rank. Raises ClusterError if there are too few in time."""
        least, start_s = self._min_ranks, self._limits.start_s
        if not 1 <= least <= (ranks or least) or ranks == 0:
            raise ClusterError(
                f"ranks={ranks}, min_ranks={least}: expected 1 or more, and min_ranks up to ranks"
            )
        wanted = ranks or max(least, len(running_workers(self._client)))
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
        return workers

    def until_all_return(self, channel: DriverChannel, workers: list[RankWorker]) -> list[Any]:
        """Run attempts until all ranks return, the stop is set, or an error ends the run."""
        wanted, number = len(workers), 0
        begin_by = time.monotonic() + self._limits.device_s
        while not self._stop.is_set():
            attempt = Attempt(
                self._client, channel, workers, number=number, limits=self._limits,
                begin_by=begin_by,
            )  # fmt: skip
            outcome = self._run(attempt)
            if isinstance(outcome, Returned) and not self._is_turn(outcome):
                return outcome.results
            number += 1
            if isinstance(outcome, Withdrawn):
                self._stop.wait(WITHDRAWN_S)
                continue
            if isinstance(outcome, Lost):
                self._count_loss(outcome.reason)
                workers = self._workers_again(wanted, after=outcome.reason)
            else:
                self._give_turn(workers)
                workers = self._workers_again(len(workers), after="after a turn of other tasks")
            if isinstance(outcome, Lost) and not self._stop.is_set():
                self._on_event(
                    RanksResumed(attempt=number, world_size=len(workers), reason=outcome.reason)
                )
            begin_by = time.monotonic() + self._limits.device_s
        return [YIELDED] * wanted

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
            raise
        finally:
            forced = attempt.end()
            self._excluded |= attempt.without_nanny
        attempt.deliver(self._report)
        if isinstance(outcome, Lost) and forced:
            return Lost(f"{forced} ({outcome.reason})")
        return outcome

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
        rejoin_s = self._limits.rejoin_s
        workers = wait_for_workers(
            self._client, wanted=wanted, within_s=rejoin_s, stop=self._stop,
            excluded=self._excluded,
        )  # fmt: skip
        if len(workers) < self._min_ranks and not self._stop.is_set():
            raise RunError(
                f"{len(workers)} of {self._min_ranks} workers are left after {rejoin_s:.0f} s "
                f"({after}): start the run again to resume when there are enough"
            )
        return workers

    def _count_loss(self, reason: str) -> None:
        self._losses = 1 if self._highest_step > self._step_before else self._losses + 1
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
