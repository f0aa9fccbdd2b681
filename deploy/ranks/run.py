"""Any callable as the ranks of torch.distributed, on the workers of a Dask cluster.

All ranks or none: they begin together, and when one is lost all begin again, as many as there are
workers for. The callable saves what it needs to go on, and finds it by itself.

    attempt 0   rank 0 |------------x          x lost: all are told, the others end
                rank 1 |------------|
    attempt 1   rank 0      |-----------|      t others wait for the device: all return YIELDED
                rank 1      |-----------t
    attempt 2   rank 0                    ...  and begin again after the others' turn

Where two runs each hold workers that the other one lacks, one of them lets go and comes again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import ClusterError, RunError

from .attempt import Ending, Gang, Lost, Patience, Returned, Withdrawn
from .channel import DriverLine
from .rank import YIELDED, Rank
from .turns import let_others_run
from .workers import LOST_SCHEDULER, Place, find_places, wait_for_places

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["YIELDED", "Rank", "run_ranks"]

AWAY_S = 1.0
"""How long ranks that let others go first stay away."""


def run_ranks(
    function: Callable[[Rank], Any],
    *,
    client: Client,
    ranks: int | None = None,
    min_ranks: int = 1,
    on_message: Callable[[dict[str, Any]], None] | None = None,
    on_resume: Callable[[int, int, str], None] | None = None,
    timeout_s: float = 30.0,
    start_s: float = 60.0,
    device_s: float = 600.0,
    rejoin_s: float = 60.0,
    leave_s: float = 30.0,
    turn_s: float = 60.0,
    max_losses: int = 8,
    stop: threading.Event | None = None,
) -> list[Any]:
    """Run a callable as ranks, one per worker, until all return; return a result per rank.

    function: picklable. It is called on each rank with torch.distributed initialised, unless it is
    the only rank. It looks at ``Rank.should_stop()``, and returns YIELDED where it left for that.
    ranks: how many; by default one per worker that is there. After a loss it goes on with as many
    as there are, ``min_ranks`` at least.
    on_message: called in this thread with what ranks tell, and with ``{"kind": "turn", "whose":
    "others" | "ranks"}``. on_resume: called after a loss with attempt, number of ranks, and why.
    timeout_s: of a collective. start_s: for the first workers to come. device_s: for other work to
    leave them. rejoin_s: for a lost worker to come back. leave_s: for ranks that were asked to
    leave. turn_s: how long ranks, and then others that wait for the same devices, have them.
    max_losses: how many in a row without progress, that is a message whose ``step`` is higher
    than all before, are one too many. stop: set it, and all ranks are asked to leave; the result
    is then YIELDED for each.

    Raises what the callable raised on any rank; ClusterError where there are too few workers or
    they are held by others; RunError where too many were lost.
    """
    run = _Run(
        function, client, on_message or (lambda message: None),
        on_resume or (lambda attempt, world_size, why: None), stop or threading.Event(),
        Patience(timeout_s=timeout_s, device_s=device_s, leave_s=leave_s, turn_s=turn_s),
    )  # fmt: skip
    places = _first_places(client, ranks, min_ranks, start_s=start_s, stop=run.stop)
    wanted = len(places)
    losses = attempt = 0
    begin_by = time.monotonic() + device_s
    with DriverLine(client) as line, _scheduler_is_needed(client):
        while True:
            if run.stop.is_set():
                return [YIELDED] * wanted
            step = run.highest_step
            ending = run.gang(line, places, attempt, begin_by)
            if isinstance(ending, Returned) and not _is_turn(ending, run.stop):
                return ending.results
            attempt += 1
            if isinstance(ending, Withdrawn):
                run.stop.wait(AWAY_S)
                continue
            if isinstance(ending, Returned):
                run.give_turn(places)
                places = run.places(wanted=len(places), within_s=rejoin_s)
            else:
                losses = 1 if run.highest_step > step else losses + 1
                _check_losses(losses, max_losses, ending.why)
                places = run.places(wanted=wanted, within_s=rejoin_s)
            if run.stop.is_set():
                continue
            if len(places) < min_ranks:
                raise RunError(
                    f"{len(places)} of {min_ranks} workers are left after {rejoin_s:.0f} s "
                    f"({getattr(ending, 'why', 'others have had their turn')}): "
                    "start the run again to go on when there are enough"
                )
            if isinstance(ending, Lost):
                run.on_resume(attempt, len(places), ending.why)
            begin_by = time.monotonic() + device_s


class _Run:
    """What stays the same from attempt to attempt, and how far the ranks came."""

    def __init__(
        self,
        function: Callable[[Rank], Any],
        client: Client,
        on_message: Callable[[dict[str, Any]], None],
        on_resume: Callable[[int, int, str], None],
        stop: threading.Event,
        patience: Patience,
    ) -> None:
        self._function, self._client, self._patience = function, client, patience
        self.on_message, self.on_resume, self.stop = on_message, on_resume, stop
        self.highest_step = float("-inf")
        self._barred: set[str] = set()

    def gang(self, line: DriverLine, places: list[Place], attempt: int, begin_by: float) -> Ending:
        """Run one attempt to its end, whatever that is; nothing of it stays on the workers."""
        gang = Gang(
            self._client, line, places, attempt=attempt, patience=self._patience, begin_by=begin_by
        )
        forced = None
        try:
            gang.start(self._function)
            ending = gang.run(hear=self._hear, stop=self.stop)
        except BaseException as error:
            if not isinstance(error, Exception):  # Ctrl-C: they may save what they have
                gang.ask_and_wait()
            raise
        finally:
            forced = gang.end()
            self._barred |= gang.unkillable
        gang.deliver(self._hear)
        if isinstance(ending, Lost) and forced:
            return Lost(f"{forced} ({ending.why})")
        return ending

    def give_turn(self, places: list[Place]) -> None:
        """Let others have the devices, for one turn at most."""
        self.on_message({"kind": "turn", "whose": "others"})
        addresses = [place.address for place in places]
        let_others_run(self._client, addresses, turn_s=self._patience.turn_s, stop=self.stop)
        self.on_message({"kind": "turn", "whose": "ranks"})

    def places(self, *, wanted: int, within_s: float) -> list[Place]:
        return wait_for_places(
            self._client, wanted=wanted, within_s=within_s, stop=self.stop, barred=self._barred
        )

    def _hear(self, message: dict[str, Any]) -> None:
        step = message.get("step")
        if isinstance(step, (int, float)):
            self.highest_step = max(self.highest_step, step)
        self.on_message(message)


def _first_places(
    client: Client, ranks: int | None, min_ranks: int, *, start_s: float, stop: threading.Event
) -> list[Place]:
    """Return a place for each rank; ClusterError where there are too few in time."""
    if not 1 <= min_ranks <= (ranks or min_ranks) or ranks == 0:
        raise ClusterError(
            f"{ranks} ranks, {min_ranks} at least: ask for one rank or more, and for no fewer "
            "than there must be"
        )
    wanted = ranks or max(min_ranks, len(find_places(client)))
    places = wait_for_places(client, wanted=wanted, within_s=start_s, stop=stop)
    if len(places) < wanted and not stop.is_set():
        raise ClusterError(
            f"{wanted} ranks need as many workers, {len(places)} are there after {start_s:.0f} s: "
            "start more workers, or ask for fewer ranks"
        )
    if len(places) > 1 and places[0].address.startswith("inproc://"):
        raise ClusterError(
            f"{len(places)} ranks need worker processes, these workers are threads of one: "
            "open the cluster with processes, or ask for one rank"
        )
    return places


@contextmanager
def _scheduler_is_needed(client: Client) -> Iterator[None]:
    """Say in one line that the scheduler was lost, whatever call it was that found out."""
    try:
        yield
    except OSError as error:  # distributed's CommClosedError is one
        if client.status == "running":
            raise
        raise RunError(LOST_SCHEDULER) from error


def _is_turn(ending: Returned, stop: threading.Event) -> bool:
    """Return whether all ranks left for the others' sake, to go on later."""
    return ending.results[0] is YIELDED and not stop.is_set()


def _check_losses(losses: int, most: int, why: str) -> None:
    if losses >= most:
        raise RunError(
            f"given up after {losses} losses in a row without progress; the last: {why}. Is there "
            "memory for what a rank does? Start the run again to go on"
        )
