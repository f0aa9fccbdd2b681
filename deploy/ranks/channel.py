"""The channel between the driver and its ranks, both ways through the Dask scheduler.

    driver --- a Variable: the present order ---> ranks, which read it every half second
    driver <-- events of one topic -------------- ranks, which wait for no answer

It opens no socket, so it works wherever the workers do. The driver deletes both when it is done.
A rank deletes them when the driver has died: a living driver orders ranks to stop before it
cancels them.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from .messages import (
    FROM_DRIVER,
    FROM_RANK,
    Arrived,
    Codec,
    Leaving,
    Left,
    Order,
    RankAssignment,
    RankReport,
    Rendezvous,
)
from .topic import forget_events, topic_name
from .turns import CHANNEL_PREFIX

if TYPE_CHECKING:
    from distributed import Client

WATCH_EVERY_S = 0.1
"""How often a rank checks whether its worker is about to end, which costs nothing."""
CHECK_ORDER_EVERY = 5
"""Of so many of these checks, one reads the order."""
CHECK_TASK_EVERY = 10
"""Of so many, one asks the scheduler whether the rank's task was cancelled."""
START_EVERY_S = 0.1
"""How often a rank reads the order while it waits for the others."""


class DriverChannel:
    """The driver's end. A context: on leaving, nothing of it stays in the scheduler."""

    def __init__(self, client: Client, message_types: Iterable[type] = ()) -> None:
        from distributed import Variable

        self.name = f"{CHANNEL_PREFIX}{uuid4().hex[:12]}"
        self.message_types = tuple(message_types)
        self._client = client
        self._variable = Variable(self.name, client=client)
        self._codec = Codec((*FROM_RANK, *self.message_types))
        self._events: queue.SimpleQueue[object] = queue.SimpleQueue()

    def __enter__(self) -> DriverChannel:
        topic = topic_name(self.name)
        self._client.subscribe_topic(topic, lambda event: self._events.put(event[1]))
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(Exception):  # the scheduler may be gone, and all of this with it
            self._client.unsubscribe_topic(topic_name(self.name))
            self._variable.delete()
            forget_events(self.name, self._client)

    def send(self, order: Order) -> None:
        """Replace the present order."""
        self._variable.set(Codec(FROM_DRIVER).encode(order))

    def receive(self, *, wait_s: float) -> list[Arrived | Left | Leaving | RankReport]:
        """Return the messages since the last call; wait up to ``wait_s`` for the first one."""
        events = []
        with suppress(queue.Empty):
            events.append(self._events.get(timeout=wait_s))
            while True:
                events.append(self._events.get_nowait())
        decoded = [self._decoded(event) for event in events]
        return [message for message in decoded if message is not None]

    def _decoded(self, event: object) -> Arrived | Left | Leaving | RankReport | None:
        """Return a rank's message; None for another: any client and the scheduler may log here."""
        with suppress(ValueError):
            message = self._codec.decode(event)
            return message if isinstance(message, FROM_RANK) else None
        return None


class RankChannel:
    """A rank's end, in the worker's thread that runs it. A context: it watches while it is open."""

    def __init__(self, assignment: RankAssignment) -> None:
        from distributed import Variable, get_client, get_worker
        from distributed.comm import get_address_host

        self._assignment = assignment
        self._codec = Codec((*FROM_RANK, *assignment.message_types))
        self._worker = get_worker()
        self._key = self._worker.get_current_task()
        self._client = get_client()
        self._variable = Variable(assignment.channel, client=self._client)
        self._announced = False
        self._closed = threading.Event()
        self._watch = threading.Thread(
            target=self._keep_watching, name=f"rank-{assignment.rank}", daemon=True
        )
        self.host = get_address_host(self._worker.address)
        """Where others reach this worker; loopback where the worker listens there."""
        self.stop = threading.Event()
        """Set when the driver asked all ranks to leave, when this one is cancelled, and when its
        worker is about to end."""
        self.regroup = threading.Event()
        """Set while other workers could join."""
        self.cancelled = threading.Event()
        """Set when the driver, dead or alive, no longer waits for this rank's result."""

    def __enter__(self) -> RankChannel:
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
        self.send(Left(attempt=self._assignment.attempt, rank=self._assignment.rank))
        if self._check_cancelled():  # a driver that still listens receives all events
            forget_events(self._assignment.channel, self._client)
            if self._driver_died():
                self._variable.delete()

    def send(self, message: Arrived | Left | Leaving | RankReport) -> None:
        """Send a message to the driver, without waiting for it. Raises TypeError."""
        topic = topic_name(self._assignment.channel)
        self._worker.log_event(topic, self._codec.encode(message))

    def wait_for_rendezvous(self) -> Rendezvous | None:
        """Return how to connect, once all ranks have their worker; None when this is called off.

        The driver bounds the wait: other tasks may first have to finish on some workers.
        """
        while not self.stop.is_set():
            order = self._order()
            if order is not None and order.attempt == self._assignment.attempt and order.rendezvous:
                return order.rendezvous
            self.stop.wait(START_EVERY_S)
        return None

    def _keep_watching(self) -> None:
        checks = 0
        while not self._closed.wait(WATCH_EVERY_S):
            checks += 1
            self._leave_with_worker()
            if checks % CHECK_TASK_EVERY == 0 and self._check_cancelled():
                self.cancelled.set()
                self.stop.set()
            if checks % CHECK_ORDER_EVERY == 0 and (order := self._order()):
                self._follow(order)

    def _follow(self, order: Order) -> None:
        if order.stop or order.attempt != self._assignment.attempt:
            self.stop.set()
        elif order.regroup:
            self.regroup.set()
        else:
            self.regroup.clear()

    def _leave_with_worker(self) -> None:
        """Have all ranks leave, and save their state, if this worker is about to end.

        It is retired, drains before its job's walltime, or was sent SIGTERM, as a spot node is.
        """
        from distributed import Status

        ends = self._worker.status in (Status.closing_gracefully, Status.closing)
        if ends and not self._announced:
            self._announced = True
            self.send(Leaving(attempt=self._assignment.attempt, rank=self._assignment.rank))
            self.stop.set()

    def _check_cancelled(self) -> bool:
        """Return whether the scheduler no longer has this task here.

        It forgets the task when the driver cancels it or dies. Dask does not stop a task that runs.
        """
        from distributed import Status

        if self._worker.status in (Status.closing, Status.closed, Status.failed):
            return True
        address = self._worker.address
        try:
            return self._key not in self._client.processing([address])[address]
        except KeyError:  # the scheduler has given this worker up
            return True
        except (OSError, TimeoutError):  # a busy scheduler answers the next time
            return False

    def _driver_died(self) -> bool:
        order = self._order(within_s=2)
        return order is not None and order.attempt == self._assignment.attempt and not order.stop

    def _order(self, *, within_s: float = 10) -> Order | None:
        with suppress(OSError, TimeoutError):  # a busy scheduler answers the next time
            order: Any = Codec(FROM_DRIVER).decode(self._variable.get(timeout=within_s))
            return order if isinstance(order, Order) else None
        return None


def choose_rendezvous(arrived: Sequence[Arrived]) -> Rendezvous:
    """Return how ranks connect: by nccl if each has its own GPU, otherwise by gloo.

    arrived: in the order of the ranks; rank 0 has the store.
    """
    gpus = {(rank.host, rank.gpu) for rank in arrived}
    nccl = all(rank.nccl for rank in arrived) and len(gpus) == len(arrived)
    return Rendezvous(
        host=arrived[0].host,
        port=arrived[0].port,
        backend="cpu:gloo,cuda:nccl" if nccl else "gloo",
    )
