"""Runs tasks on a Dask cluster: limited in flight, retried, gathered in batches, cancelled.

The number of futures in flight follows the cluster's threads, not the volume: the scheduler and the
driver hold as many for a million blocks as for a hundred.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .errors import OvertileError, RunError
from .store_errors import one_line

if TYPE_CHECKING:
    from distributed import Client, Future

Item = TypeVar("Item")

IN_FLIGHT_PER_THREAD = 2
"""One task runs while the next waits on the worker, so that no thread waits for the driver."""
AHEAD_S = 0.5
"""Seconds of work to keep in flight where tasks take milliseconds and would wait for the driver."""
DEVICE_RESOURCE = "device"
"""Workers offer one unit per thread, so that blocks and training ranks take turns."""
LOST_SCHEDULER = "the connection to the Dask scheduler was lost: start the run again to resume"


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Item]):
    """The result of one item, or the error of its last attempt."""

    item: Item
    result: Any = None
    error: BaseException | None = None


class InFlightLimit:
    """How many futures may be in flight, updated every few seconds, since a cluster may grow.

    It follows the cluster's threads, or the tasks that end in half a second if these are more.
    Thread-safe.
    """

    def __init__(self, client: Client, *, every_s: float = 2.0) -> None:
        self._client = client
        self._every_s = every_s
        self._updated_at: float | None = None
        self._limit = 1
        self._ended = 0
        self._lock = threading.Lock()
        self._drained = threading.Event()

    def drain(self) -> None:
        """Set the limit to 0 for good: nothing new is submitted."""
        self._drained.set()

    @property
    def is_drained(self) -> bool:
        """Return whether the limit is 0 for good."""
        return self._drained.is_set()

    def __call__(self) -> int:
        """Return the current limit."""
        if self.is_drained:
            return 0
        with self._lock:
            now = time.monotonic()
            if self._updated_at is None or now - self._updated_at >= self._every_s:
                threads = sum(self._client.nthreads().values())
                per_s = self._ended / (now - self._updated_at) if self._updated_at else 0.0
                self._limit = max(2, IN_FLIGHT_PER_THREAD * threads, round(per_s * AHEAD_S))
                self._updated_at, self._ended = now, 0
            return self._limit

    def ended(self, count: int) -> None:
        """Count tasks that have ended."""
        with self._lock:
            self._ended += count


def drive(
    client: Client,
    items: Iterator[Item],
    submit: Callable[[list[Item]], list[Future]],
    *,
    limit: Callable[[], int],
    stop: threading.Event,
) -> Iterator[list[Outcome[Item]]]:
    """Yield outcomes in batches, in order of completion, until every item has one.

    submit: makes the futures of some items, in their order, with keys and retries; one message to
    the scheduler for many small tasks. A task's error is an outcome, not an exception. Once
    ``limit`` is 0, nothing new is submitted and the futures in flight complete. Once ``stop`` is
    set, nothing new is submitted and the futures in flight are cancelled. Each future is released
    when its outcome is yielded. Raises RunError if the scheduler is lost.

    Tasks whose worker was killed too often are submitted once more at the end, each alone: Dask
    cannot say which of the tasks of that worker was the cause.
    """
    done: queue.SimpleQueue[Future] = queue.SimpleQueue()
    waiting: dict[Any, tuple[Future, Item]] = {}
    suspects: list[Item] = []
    left, alone = True, False
    try:
        while left or waiting or (suspects and limit() > 0):
            if not left and not waiting:
                items, suspects, left, alone = iter(suspects), [], True, True
            room = (min(limit(), 1) if alone else limit()) - len(waiting)
            if left and room > 0 and not stop.is_set():
                some = list(itertools.islice(items, room))
                left = len(some) == room
                _check_client(client)
                waiting |= _submitted(some, submit, done)
            left = left and limit() > 0
            if stop.is_set():
                return
            finished = _finished(done, wait_s=0.5)
            _check_client(client)
            outcomes = _outcomes(client, [waiting[future.key] for future in finished])
            for future in finished:
                if future.key in outcomes:
                    waiting.pop(future.key)
                    future.release()
                else:  # its worker left with the result: Dask computes it again
                    future.add_done_callback(done.put)
            if not alone:
                suspects += [outcome.item for outcome in outcomes.values() if _is_killed(outcome)]
            ended = [one for one in outcomes.values() if alone or not _is_killed(one)]
            if ended:
                yield ended
    except OSError as error:  # distributed's CommClosedError is one
        raise _lost() from error
    finally:
        if waiting:
            _cancel(client, [future for future, _ in waiting.values()])


def _submitted(
    some: list[Item], submit: Callable[[list[Item]], list[Future]], done: queue.SimpleQueue[Future]
) -> dict[Any, tuple[Future, Item]]:
    """Submit some items; return their futures, which are put into ``done`` as they end, by key."""
    submitted = {}
    for future, item in zip(submit(some) if some else (), some, strict=True):
        submitted[future.key] = (future, item)
        future.add_done_callback(done.put)
    return submitted


def one_by_one(submit: Callable[[Item], Future]) -> Callable[[list[Item]], list[Future]]:
    """Return a function that submits several items, from one that submits one item."""
    return lambda items: [submit(item) for item in items]


def _finished(done: queue.SimpleQueue[Future], *, wait_s: float) -> list[Future]:
    """Return all futures that have finished; wait up to ``wait_s`` for the first."""
    finished = []
    with suppress(queue.Empty):
        finished.append(done.get(timeout=wait_s))
        while True:
            finished.append(done.get_nowait())
    return finished


def _outcomes(client: Client, ended: list[tuple[Future, Item]]) -> dict[Any, Outcome[Item]]:
    """Return the outcomes of the futures that have one, by key; results come in one message.

    Each status is read once, since it may change at any moment. A future whose worker has left has
    no outcome.
    """
    status = {future.key: future.status for future, _ in ended}
    if "cancelled" in status.values():  # by the cluster: `stop` is not set
        raise _lost()
    outcomes: dict[Any, Outcome[Item]] = {
        future.key: Outcome(item, error=future.exception())
        for future, item in ended
        if status[future.key] == "error"
    }
    good = [(future, item) for future, item in ended if status[future.key] == "finished"]
    results = client.gather([future for future, _ in good], errors="skip") if good else []
    if len(results) == len(good):
        for (future, item), result in zip(good, results, strict=True):
            outcomes[future.key] = Outcome(item, result)
    return outcomes


def _is_killed(outcome: Outcome[Any]) -> bool:
    from distributed import KilledWorker

    return isinstance(outcome.error, KilledWorker)


def reason(outcome: Outcome[Any]) -> str:
    """Return the error of an outcome as one line without credentials."""
    return one_line(f"{type(outcome.error).__name__}: {outcome.error}")


def _check_client(client: Client) -> None:
    if client.status in ("closed", "closing"):
        raise _lost()


def _lost() -> RunError:
    return RunError(LOST_SCHEDULER)


def _cancel(client: Client, futures: list[Future]) -> None:
    """Cancel the futures in flight, also if the cluster is shutting down."""
    with suppress(Exception):
        client.cancel(futures, force=True)
    for future in futures:
        future.release()


def run_all(
    client: Client, calls: list[tuple[Callable[..., Any], tuple[Any, ...]]], *,
    key: str, token: str, stop: threading.Event, retries: int = 2,
) -> list[Any]:  # fmt: skip
    """Run a few calls on the cluster and return their results in order.

    Raises an OvertileError of a call unchanged, any other error as RunError; also RunError if
    ``stop`` is set before the end.
    """
    results: dict[int, Any] = {}

    def submit(number: int) -> Future:
        function, arguments = calls[number]
        return client.submit(
            function, *arguments, key=(f"{key}-{token}", number), retries=retries, pure=False
        )

    limit = InFlightLimit(client)
    numbers = iter(range(len(calls)))
    for batch in drive(client, numbers, one_by_one(submit), limit=limit, stop=stop):
        for outcome in batch:
            if isinstance(outcome.error, OvertileError):
                raise outcome.error
            if outcome.error is not None:
                raise RunError(f"{key}: {reason(outcome)}; start the run again to resume")
            results[outcome.item] = outcome.result
    if len(results) < len(calls):
        raise RunError("stopped before the end: start the run again to resume")
    return [results[number] for number in range(len(calls))]
