"""The line between the driver and its ranks, both ways through the Dask scheduler.

    driver --- a Variable: the order of now ---> ranks, which look at it every half second
    driver <-- events of one topic ------------- ranks, which wait for no answer

No socket of ours, so it works wherever the workers do; and the scheduler keeps nothing of it. The
driver takes both away when it is done. A rank does so where the driver is gone: one that lives
orders ranks to stop before it cancels them.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from .turns import LINE

if TYPE_CHECKING:
    from distributed import Client

LOOK_EVERY_S = 0.5
"""How often a rank looks whether it is still wanted."""
GO_EVERY_S = 0.1
"""The same, while it waits for the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """Where the ranks meet, and what they speak: the address of rank 0's store and a backend."""

    host: str
    port: int
    backend: str


def where_to_meet(arrived: Sequence[dict[str, Any]]) -> Meeting:
    """Return where ranks meet: nccl where each has a GPU of its own, otherwise gloo.

    arrived: what each rank said of its host, its port and its GPU; rank 0 first.
    """
    gpus = {(message["host"], message["gpu"]) for message in arrived}
    nccl = all(message["nccl"] for message in arrived) and len(gpus) == len(arrived)
    return Meeting(
        host=arrived[0]["host"],
        port=arrived[0]["port"],
        backend="cpu:gloo,cuda:nccl" if nccl else "gloo",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the driver wants of the ranks of one attempt."""

    attempt: int
    go: Meeting | None = None
    """Set once all ranks have their worker."""
    stop: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """What a rank must know to find its place in the gang; this travels."""

    line: str
    attempt: int
    rank: int
    world_size: int
    timeout_s: float


class DriverLine:
    """The driver's end. A context: what it needs of the scheduler is given back on leaving."""

    def __init__(self, client: Client) -> None:
        from distributed import Variable

        self.name = f"{LINE}{uuid4().hex[:12]}"
        self._client = client
        self._variable = Variable(self.name, client=client)
        self._heard: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def __enter__(self) -> DriverLine:
        self._client.subscribe_topic(_topic(self.name), lambda event: self._heard.put(event[1]))
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(Exception):  # the scheduler may be gone, and our things with it
            self._client.unsubscribe_topic(_topic(self.name))
            self._variable.delete()
            _forget_events(self.name, self._client)

    def order(self, order: Order) -> None:
        """Replace the order of before."""
        self._variable.set(asdict(order))

    def heard(self, *, wait_s: float) -> list[dict[str, Any]]:
        """Return what ranks have said since; wait a moment where that is nothing."""
        messages = []
        with suppress(queue.Empty):
            messages.append(self._heard.get(timeout=wait_s))
            while True:
                messages.append(self._heard.get_nowait())
        return [message for message in messages if _is_ours(message)]


class RankLine:
    """A rank's end, in the worker's thread that runs it. A context: it watches while it is open."""

    def __init__(self, seat: Seat) -> None:
        from distributed import Variable, get_client, get_worker
        from distributed.comm import get_address_host

        self._seat = seat
        self._worker = get_worker()
        self._key = self._worker.get_current_task()
        self._client = get_client()
        self._variable = Variable(seat.line, client=self._client)
        self._closed = threading.Event()
        self._watch = threading.Thread(target=self._look, name=f"rank-{seat.rank}", daemon=True)
        self.host = get_address_host(self._worker.address)
        """Where others reach this worker; loopback where the worker listens there."""
        self.stop = threading.Event()
        """Set when the driver asked all ranks to leave, or wants this one no more."""

    def __enter__(self) -> RankLine:
        self._watch.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._closed.set()
        self._watch.join(timeout=5)
        self.say("left")
        if not self.is_wanted():
            _forget_events(self._seat.line, self._client)  # a driver that listens still hears all
            if self._driver_is_gone():
                self._variable.delete()

    def say(self, kind: str, **more: Any) -> None:
        """Tell the driver, without waiting for it."""
        said = {"kind": kind, "attempt": self._seat.attempt, "rank": self._seat.rank, **more}
        self._worker.log_event(_topic(self._seat.line), said)

    def is_wanted(self) -> bool:
        """Return whether the scheduler still wants this task: a driver that is gone has cancelled.

        Dask does not stop a task that runs, but its worker knows.
        """
        task = self._worker.state.tasks.get(self._key)
        return task is not None and task.state in ("executing", "long-running")

    def wait_for_go(self) -> Meeting | None:
        """Return where to meet, once all ranks have their worker; None where this is called off.

        The driver bounds the wait: others may first have to finish what they do.
        """
        while self.is_wanted():
            order = self._order()
            if order is not None and order.attempt == self._seat.attempt and order.go is not None:
                return order.go
            if self.stop.wait(GO_EVERY_S):
                return None
        return None

    def _driver_is_gone(self) -> bool:
        order = self._order(within_s=2)
        return order is not None and order.attempt == self._seat.attempt and not order.stop

    def _order(self, *, within_s: float = 10) -> Order | None:
        with suppress(OSError, TimeoutError):  # a busy scheduler answers the next time
            order = self._variable.get(timeout=within_s)
            go = order["go"] and Meeting(**order["go"])
            return Order(attempt=order["attempt"], go=go, stop=order["stop"])
        return None

    def _look(self) -> None:
        while not self._closed.wait(LOOK_EVERY_S):
            if not self.is_wanted() or self._is_asked_to_leave():
                self.stop.set()

    def _is_asked_to_leave(self) -> bool:
        order = self._order()
        return order is not None and (order.stop or order.attempt != self._seat.attempt)


def _is_ours(message: object) -> bool:
    """Return whether a rank said it; a topic is open to everybody, the scheduler included."""
    return isinstance(message, dict) and {"kind", "attempt", "rank"} <= message.keys()


def _forget_events(name: str, client: Client) -> None:
    """Have the scheduler forget, in a while, what was said on a line until then."""
    from distributed import Variable

    Variable(f"{name}{_SAID}", client=client).delete()


_SAID = "-said"


def _topic(name: str) -> str:
    """Name the topic so that the scheduler forgets its events with a Variable that is never set.

    ``VariableExtension.delete`` removes a client of this name, and a client's topic is emptied
    when it has been gone for ``distributed.scheduler.events-cleanup-delay`` (an hour). It logs the
    removal there, so this is not the Variable of the orders.
    """
    return f"variable-{name}{_SAID}"
