"""One gang, from the driver's side: all ranks of one attempt, from their start to their end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pipeline.base.errors import ClusterError, RunError

from .channel import DriverLine, Meeting, Order, Seat, where_to_meet
from .rank import YIELDED, PeerLostError, Rank, run_rank
from .turns import DEVICE, LOOK_EVERY_S, gangs_assigned_to, holds_back
from .workers import LOST_SCHEDULER, Place, restart_workers, workers_of

if TYPE_CHECKING:
    from distributed import Client, Future

LISTEN_S = 0.2
SETTLE_S = 2.0
"""After a rank lost its peers: how long until the cause, another rank's error, has come too."""
MAKE_WAY_S = 2.0
"""How long ranks may hold some of their workers while another gang wants those that they lack."""
OUT_S = 5.0
"""How long a rank that nobody wants any more may stay before its worker is restarted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a gang waits for what."""

    timeout_s: float
    """A collective, for its peers."""
    device_s: float
    """All ranks together, for their workers."""
    leave_s: float
    """Ranks that were asked to leave, until they are ended."""
    turn_s: float
    """Others that wait for the device, for their turn."""


@dataclass(frozen=True, slots=True)
class Returned:
    """All ranks returned: a result per rank."""

    results: list[Any]


@dataclass(frozen=True, slots=True)
class Lost:
    """A rank went missing, and the others could not go on."""

    why: str


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Another gang waited for what this one held, and the other way round; it comes first."""


Ending: TypeAlias = Returned | Lost | Withdrawn


class Gang:
    """The ranks of one attempt, one per place."""

    def __init__(
        self, client: Client, line: DriverLine, places: Sequence[Place], *,
        attempt: int, patience: Patience, begin_by: float,
    ) -> None:  # fmt: skip
        """``begin_by``: on the monotonic clock, when all must have their workers."""
        self._client, self._line, self._places = client, line, list(places)
        self._attempt, self._patience, self._begin_by = attempt, patience, begin_by
        self._started_at = time.monotonic()
        self._futures: list[Future] = []
        self._results: dict[int, Any] = {}
        self._arrived: dict[int, dict[str, Any]] = {}
        self._twice: set[int] = set()
        self._left: set[int] = set()
        self._said: list[dict[str, Any]] = []
        self._looked_at = 0.0
        self._meeting: Meeting | None = None
        self._gone_at = 0.0
        """When the ranks went; 0 while they wait for each other."""
        self._leave_by: float | None = None
        self.unkillable: set[str] = set()
        """Workers that hold a rank of ours, and that nobody can restart."""

    def start(self, function: Callable[[Rank], Any]) -> None:
        """Submit all ranks; each waits on its worker until it has its device."""
        self._line.order(Order(attempt=self._attempt))
        group = f"{self._line.name}-{self._attempt}"  # never a key twice: Dask counts its deaths
        for number, place in enumerate(self._places):
            seat = Seat(
                line=self._line.name, attempt=self._attempt, rank=number,
                world_size=len(self._places), timeout_s=self._patience.timeout_s,
            )  # fmt: skip
            units = {DEVICE: place.device_units} if place.device_units else None
            self._futures.append(
                self._client.submit(
                    run_rank, function, seat, key=(group, number), workers=[place.address],
                    allow_other_workers=False, pure=False, retries=0, priority=100,
                    resources=units,
                )
            )  # fmt: skip

    def run(self, *, hear: Callable[[dict[str, Any]], None], stop: threading.Event) -> Ending:
        """Wait for the ranks to return. Raises what the callable raised on any of them.

        hear: called with every message of a rank. Once ``stop`` is set the ranks are asked to
        leave, and ended if they do not.
        """
        while True:
            self._listen(LISTEN_S)
            self.deliver(hear)
            if ending := self._ending():
                return ending
            if not self._gone_at:
                if stop.is_set():
                    return Returned([YIELDED] * len(self._places))
                self._go_if_all_are_here()
            elif stop.is_set():
                self._ask_to_leave()
                if self._leave_by is not None and time.monotonic() > self._leave_by:
                    return Returned([YIELDED] * len(self._places))

    def deliver(self, hear: Callable[[dict[str, Any]], None]) -> None:
        """Hand over what ranks have said."""
        while self._said:
            hear(self._said.pop(0))

    def ask_and_wait(self) -> None:
        """Let the ranks leave by themselves, for as long as they may take."""
        with suppress(Exception):  # no scheduler, nobody to ask
            if not self._gone_at or self._client.status != "running":
                return
            self._ask_to_leave()
            while self._inside() and time.monotonic() < (self._leave_by or 0):
                self._listen(LISTEN_S)

    def end(self) -> str | None:
        """Leave nothing of this gang on the cluster: no task, no thread inside the callable.

        Returns who had to be ended by force, None where all left by themselves.
        """
        try:
            if self._client.status != "running":
                return None
            with suppress(Exception):
                self._line.order(Order(attempt=self._attempt, go=self._meeting, stop=True))
                self._client.cancel(self._futures, force=True)
                until = time.monotonic() + OUT_S
                while (inside := self._inside()) and time.monotonic() < until:
                    self._listen(LISTEN_S)
                return self._restart(inside) if inside else None
            return None
        finally:
            for future in self._futures:
                future.release()

    def _listen(self, wait_s: float) -> None:
        for message in self._line.heard(wait_s=wait_s):
            if message["attempt"] != self._attempt:
                continue
            rank, kind = message["rank"], message["kind"]
            if kind == "said":
                self._said.append(message["message"])
            elif kind == "left":
                self._left.add(rank)
            elif rank in self._arrived:
                self._twice.add(rank)  # its worker died and came back, at the same address
            else:
                self._arrived[rank] = message

    def _go_if_all_are_here(self) -> None:
        if len(self._arrived) == len(self._places):
            self._meeting = where_to_meet([self._arrived[n] for n in range(len(self._places))])
            self._line.order(Order(attempt=self._attempt, go=self._meeting))
            self._gone_at = time.monotonic()
        elif time.monotonic() > self._begin_by:
            late = [p.address for n, p in enumerate(self._places) if n not in self._arrived]
            raise ClusterError(
                f"{len(late)} of {len(self._places)} ranks could not begin within "
                f"{self._patience.device_s:.0f} s on {', '.join(late[:3])}: other work holds these "
                "workers, or they are short of memory; wait for it to end, or ask for fewer ranks"
            )

    def _ask_to_leave(self) -> None:
        if self._leave_by is None:
            self._line.order(Order(attempt=self._attempt, go=self._meeting, stop=True))
            self._leave_by = time.monotonic() + self._patience.leave_s

    def _ending(self) -> Ending | None:
        """Return how the gang ended, None while it runs."""
        for rank, future in enumerate(self._futures):
            status = future.status
            if status == "cancelled":  # not by us: we do so in the end only
                raise RunError(LOST_SCHEDULER)
            if status == "error":
                return self._lost_or_raise()
            if status == "finished" and rank not in self._results:
                with suppress(TimeoutError):  # its worker left with the result
                    self._results[rank] = future.result(timeout=5)
        if len(self._results) == len(self._places):
            return self._returned([self._results[rank] for rank in range(len(self._places))])
        return self._look()

    def _returned(self, results: list[Any]) -> Returned:
        """Return the results, which are all YIELDED or none; and only if the ranks were asked."""
        yielded = [rank for rank, result in enumerate(results) if result is YIELDED]
        if 0 < len(yielded) < len(results):
            raise RuntimeError(
                f"ranks {yielded} yielded and the others did not: ranks must decide together"
            )
        if yielded and self._leave_by is None:
            raise RuntimeError("the ranks yielded, though nobody had asked them to")
        return Returned(results)

    def _look(self) -> Lost | Withdrawn | None:
        """Look at the workers every second: whether all are there, and others wait for them."""
        if time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return None
        workers = workers_of(self._client)
        self._looked_at = time.monotonic()
        if missing := self._missing(workers):
            return Lost(missing)
        turn_is_over = self._gone_at and self._looked_at - self._gone_at >= self._patience.turn_s
        ours = [workers[p.address] for p in self._places if p.address in workers]
        if turn_is_over and any(map(holds_back, ours)):
            self._ask_to_leave()
        return Withdrawn() if self._must_make_way() else None

    def _must_make_way(self) -> bool:
        """Return whether two gangs hold each other's workers, and this one is to let go.

        All gangs agree on who comes first, whatever they hold: the one whose name does.
        """
        if not self._arrived or self._looked_at - self._started_at < MAKE_WAY_S:
            return False
        lacking = [p.address for n, p in enumerate(self._places) if n not in self._arrived]
        return any(name < self._line.name for name in gangs_assigned_to(self._client, lacking))

    def _missing(self, workers: Any) -> str | None:
        for rank, place in enumerate(self._places):
            if rank in self._results:
                continue
            if place.address not in workers or rank in self._twice:
                return f"rank {rank} was lost: its worker {place.address} ended"
        return None

    def _lost_or_raise(self) -> Lost:
        """Return who was lost, once some rank failed; raise where the callable itself raised."""
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
            missing = self._missing(workers_of(self._client))
            if missing or len(errors) == len(self._places) or time.monotonic() > until:
                break
            self._listen(LISTEN_S)
        rank, error = min(errors.items())
        lost_others = isinstance(error, PeerLostError)
        why = f"lost the others: {error}" if lost_others else "was lost: its worker ended"
        return Lost(missing or f"rank {rank} on {self._places[rank].address} {why}")

    def _inside(self) -> list[int]:
        """Return the ranks that have begun on a worker that is there, and have not left."""
        open_ranks = [rank for rank in self._arrived if rank not in self._left]
        if not open_ranks:
            return []
        workers = workers_of(self._client)
        return [rank for rank in open_ranks if self._places[rank].address in workers]

    def _restart(self, ranks: list[int]) -> str:
        """Restart the workers of ranks that do not leave: the only way to end a thread."""
        self.unkillable |= restart_workers(self._client, [self._places[n].address for n in ranks])
        names = ", ".join(f"rank {n} on {self._places[n].address}" for n in ranks)
        return f"{names} did not answer"
