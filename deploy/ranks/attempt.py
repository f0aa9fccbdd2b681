"""One attempt, from the driver's side: all ranks, from their start to their end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import ClusterError, RunError
from pipeline.base.scheduling import DEVICE_RESOURCE, LOST_SCHEDULER
from pipeline.base.workers import workers_of

from .channel import DriverChannel, choose_rendezvous
from .limits import RankLimits
from .membership import announced_end, ending, joinable
from .messages import Arrived, Leaving, Left, Order, RankAssignment, RankReport, Rendezvous
from .outcome import Lost, Outcome, Regrouped, Returned, Withdrawn
from .rank import YIELDED, PeerLostError, Rank, run_rank
from .turns import CHECK_EVERY_S, channels_on, has_waiting_tasks
from .workers import RankWorker, restart_workers

if TYPE_CHECKING:
    from distributed import Client, Future

RECEIVE_S = 0.2
SETTLE_S = 2.0
"""After a rank lost its peers: how long to wait for the cause, which is another rank's error."""
WITHDRAW_S = 2.0
"""How long ranks may hold some of their workers while another attempt waits for these."""
LEAVE_S = 5.0
"""How long a cancelled rank may stay before its worker is restarted."""


class Attempt:
    """The ranks of one attempt, one per worker."""

    def __init__(
        self, client: Client, channel: DriverChannel, workers: Sequence[RankWorker], *,
        number: int, limits: RankLimits, begin_by: float, room: int = 0,
        excluded: Collection[str] = (),
    ) -> None:  # fmt: skip
        """``begin_by``: on the monotonic clock, when all must have their workers.

        room: how many more ranks may join. excluded: workers that must not.
        """
        self._client, self._channel, self._workers = client, channel, list(workers)
        self._number, self._limits, self._begin_by = number, limits, begin_by
        self._own = [worker.address for worker in self._workers]
        self._room, self._excluded = room, excluded
        self._offered = self._ever_offered = False
        """Whether the ranks were asked to take in others: now, and at any time."""
        self._ending: set[str] = set()
        """Workers of these ranks that are about to end."""
        self._submitted_at = time.monotonic()
        self._futures: list[Future] = []
        self._results: dict[int, Any] = {}
        self._arrived: dict[int, Arrived] = {}
        self._arrived_twice: set[int] = set()
        self._left: set[int] = set()
        self._reports: list[RankReport] = []
        self._checked_at = 0.0
        self._rendezvous: Rendezvous | None = None
        self._began_at: float | None = None
        """When all ranks had their workers; None before."""
        self._leave_by: float | None = None
        """Set once the ranks were asked to leave."""
        self.without_nanny: set[str] = set()
        """Workers that still run a rank of this attempt, and that cannot be restarted."""

    def start(self, function: Callable[[Rank], Any]) -> None:
        """Submit all ranks; each waits on its worker until it has its device."""
        self._channel.send(Order(attempt=self._number))
        group = f"{self._channel.name}-{self._number}"  # never a key twice: Dask counts its losses
        for rank, worker in enumerate(self._workers):
            assignment = RankAssignment(
                channel=self._channel.name, attempt=self._number, rank=rank,
                world_size=len(self._workers), timeout_s=self._limits.collective_s,
                message_types=self._channel.message_types,
            )  # fmt: skip
            units = {DEVICE_RESOURCE: worker.device_units} if worker.device_units else None
            self._futures.append(
                self._client.submit(
                    run_rank, function, assignment, key=(group, rank), workers=[worker.address],
                    allow_other_workers=False, pure=False, retries=0, priority=100,
                    resources=units,
                )
            )  # fmt: skip

    def wait(self, *, on_report: Callable[[RankReport], None], stop: threading.Event) -> Outcome:
        """Wait for the ranks to return. Raises what the callable raised on any of them.

        Once ``stop`` is set the ranks are asked to leave, and ended if they do not.
        """
        while True:
            self._receive()
            self.deliver(on_report)
            if outcome := self._outcome():
                return outcome
            if self._began_at is None:
                if stop.is_set():
                    return self._all_yielded()
                if self._ending:
                    return Regrouped(frozenset(self._ending))
                self._begin_if_all_arrived()
            elif stop.is_set():
                self._ask_to_leave()
                if self._leave_by is not None and time.monotonic() > self._leave_by:
                    return self._all_yielded()

    def deliver(self, on_report: Callable[[RankReport], None]) -> None:
        """Pass on the reports that were received."""
        while self._reports:
            on_report(self._reports.pop(0))

    def ask_to_leave_and_wait(self) -> None:
        """Let the ranks leave by themselves, for ``leave_s`` at most."""
        with suppress(Exception):  # the scheduler may be gone
            if self._began_at is None or self._client.status != "running":
                return
            self._ask_to_leave()
            while self._inside() and time.monotonic() < (self._leave_by or 0):
                self._receive()

    def end(self) -> str | None:
        """Leave nothing of this attempt on the cluster: no task, no thread inside the callable.

        Returns which ranks had to be ended by force; None if all left by themselves.
        """
        try:
            if self._client.status != "running":
                return None
            with suppress(Exception):
                self._send_order(stop=True)
                self._client.cancel(self._futures, force=True)
                until = time.monotonic() + LEAVE_S
                while (inside := self._inside()) and time.monotonic() < until:
                    self._receive()
                return self._restart(inside) if inside else None
            return None
        finally:
            for future in self._futures:
                future.release()

    def _receive(self) -> None:
        for message in self._channel.receive(wait_s=RECEIVE_S):
            if message.attempt != self._number:
                continue
            if isinstance(message, RankReport):
                self._reports.append(message)
            elif isinstance(message, Left):
                self._left.add(message.rank)
            elif isinstance(message, Leaving):
                self._leave_without({self._own[message.rank]})
            elif message.rank in self._arrived:  # its worker died and came back at its address
                self._arrived_twice.add(message.rank)
            else:
                self._arrived[message.rank] = message

    def _begin_if_all_arrived(self) -> None:
        if not (absent := self._absent()):
            arrived = [self._arrived[rank] for rank in range(len(self._workers))]
            self._rendezvous = choose_rendezvous(arrived)
            self._send_order()
            self._began_at = time.monotonic()
        elif time.monotonic() > self._begin_by:
            raise ClusterError(
                f"{len(absent)} of {len(self._workers)} ranks could not begin within "
                f"{self._begin_by - self._submitted_at:.0f} s on {', '.join(absent[:3])}: other "
                "tasks hold these workers, or they lack memory; wait for the tasks to end, or use "
                "fewer ranks"
            )

    def _absent(self) -> list[str]:
        """Return the workers whose rank has not begun."""
        workers = enumerate(self._workers)
        return [worker.address for rank, worker in workers if rank not in self._arrived]

    def _leave_without(self, workers: set[str]) -> None:
        """Ask the ranks to leave, if these of their workers are about to end."""
        if workers:
            self._ending |= workers
            self._ask_to_leave()

    def _ask_to_leave(self) -> None:
        if self._leave_by is None:
            self._send_order(stop=True)
            self._leave_by = time.monotonic() + self._limits.leave_s

    def _send_order(self, *, stop: bool = False) -> None:
        order = Order(
            attempt=self._number, rendezvous=self._rendezvous, stop=stop, regroup=self._offered
        )
        self._channel.send(order)

    def _all_yielded(self) -> Returned:
        return Returned([YIELDED] * len(self._workers))

    def _outcome(self) -> Outcome | None:
        """Return how the attempt ended, None while it runs."""
        for rank, future in enumerate(self._futures):
            status = future.status
            if status == "cancelled":  # not by this driver, which cancels only in the end
                raise RunError(LOST_SCHEDULER)
            if status == "error":
                return self._lost_or_raise()
            if status == "finished" and rank not in self._results:
                with suppress(TimeoutError):  # its worker left with the result
                    self._results[rank] = future.result(timeout=5)
        if len(self._results) == len(self._workers):
            return self._returned([self._results[rank] for rank in range(len(self._workers))])
        return self._check_workers()

    def _returned(self, results: list[Any]) -> Returned | Regrouped:
        """Return the results. Raises RuntimeError for ranks that yielded and should not have."""
        yielded = [rank for rank, result in enumerate(results) if result is YIELDED]
        if 0 < len(yielded) < len(results):
            raise RuntimeError(
                f"ranks {yielded} returned YIELDED and the others did not: ranks must decide "
                "together, by an all_reduce of should_stop()"
            )
        asked = self._leave_by is not None
        if yielded and (self._ending or (self._ever_offered and not asked)):
            return Regrouped(frozenset(self._ending))
        if yielded and not asked:
            raise RuntimeError("the ranks returned YIELDED before should_stop() was true")
        return Returned(results)

    def _check_workers(self) -> Lost | Withdrawn | Regrouped | None:
        """Check every second whether all workers are there, and whether other tasks wait there."""
        if time.monotonic() - self._checked_at < CHECK_EVERY_S:
            return None
        records = workers_of(self._client)
        self._checked_at = time.monotonic()
        if reason := self._lost_worker(records):
            return self._lost(reason)
        self._leave_without(ending(records, self._own))
        if self._began_at is not None and self._leave_by is None:
            self._offer(records)
        if self._began_at is not None and self._checked_at - self._began_at >= self._limits.turn_s:
            held = [records[w.address] for w in self._workers if w.address in records]
            if any(map(has_waiting_tasks, held)):
                self._ask_to_leave()
        return Withdrawn() if self._must_withdraw() else None

    def _offer(self, records: Mapping[str, Any]) -> None:
        """Let the ranks know whether other workers could join."""
        others = self._room > 0 and joinable(
            self._client, records, own=self._own, excluded=self._excluded
        )
        if bool(others) != self._offered:
            self._offered = bool(others)
            self._ever_offered |= self._offered
            self._send_order()

    def _lost(self, reason: str) -> Lost | Regrouped:
        """Return the outcome after a loss, which was announced if a worker was about to end."""
        running = workers_of(self._client)
        gone = [address for address in self._own if address not in running]
        self._ending |= {one for one in gone if announced_end(self._client, one)}
        return Regrouped(frozenset(self._ending)) if self._ending else Lost(reason)

    def _must_withdraw(self) -> bool:
        """Return whether another attempt holds workers that this one lacks, and goes first.

        All drivers agree on which goes first, whatever they hold: the lower channel name.
        """
        if not self._arrived or self._checked_at - self._submitted_at < WITHDRAW_S:
            return False
        others = channels_on(self._client, self._absent())
        return any(name < self._channel.name for name in others)

    def _lost_worker(self, records: Mapping[str, Any]) -> str | None:
        """Return which rank lost its worker before it returned; None if none did."""
        for rank, worker in enumerate(self._workers):
            if rank in self._results:
                continue
            if worker.address not in records or rank in self._arrived_twice:
                return f"rank {rank} was lost: its worker {worker.address} ended"
        return None

    def _lost_or_raise(self) -> Lost | Regrouped:
        """Return which rank was lost, once some rank failed; raise what the callable raised."""
        from distributed.scheduler import KilledWorker, NoValidWorkerError

        until = time.monotonic() + SETTLE_S
        while True:
            errors = {
                rank: future.exception()
                for rank, future in enumerate(self._futures)
                if future.status == "error"
            }
            for rank, error in errors.items():
                if not isinstance(error, (PeerLostError, KilledWorker, NoValidWorkerError)):
                    self._futures[rank].result()
            reason = self._lost_worker(workers_of(self._client))
            if reason or len(errors) == len(self._workers) or time.monotonic() > until:
                break
            self._receive()
        rank, error = min(errors.items())
        lost_others = isinstance(error, PeerLostError)
        what = f"lost the others: {error}" if lost_others else "was lost: its worker ended"
        return self._lost(reason or f"rank {rank} on {self._own[rank]} {what}")

    def _inside(self) -> list[int]:
        """Return the ranks that have begun on a worker that still runs, and have not left."""
        inside = [rank for rank in self._arrived if rank not in self._left]
        if not inside:
            return []
        records = workers_of(self._client)
        return [rank for rank in inside if self._workers[rank].address in records]

    def _restart(self, ranks: list[int]) -> str:
        """Restart the workers of ranks that do not leave: the only way to end a thread."""
        addresses = [self._workers[rank].address for rank in ranks]
        self.without_nanny |= restart_workers(self._client, addresses)
        names = (f"rank {rank} on {self._workers[rank].address}" for rank in ranks)
        return f"{', '.join(names)} did not answer"
