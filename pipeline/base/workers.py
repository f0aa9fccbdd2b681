"""The workers of a cluster, before a run uses them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from .errors import ClusterError, RunError, VolumeError
from .location import Location
from .scheduling import DEVICE_RESOURCE, LOST_SCHEDULER

if TYPE_CHECKING:
    from distributed import Client

RESTART_S, POLL_S = 60.0, 0.1
"""How long to wait for workers that are being started again, and how often to look."""

_within_s: MutableMapping[Client, float] = WeakKeyDictionary()
_last_share: MutableMapping[Client, dict[str, float]] = WeakKeyDictionary()
"""Of the last workers that were seen."""


def set_worker_wait(client: Client, within_s: float) -> None:
    """Let :func:`present_workers` wait longer than a minute: jobs may wait in a queue for hours."""
    _within_s[client] = within_s


@contextmanager
def asking_for_a_worker(client: Client) -> Iterator[None]:
    """Hold a task while inside: clusters that start workers for tasks then start one."""
    wanted = client.submit(int, key=f"wake-{client.id}-{time.monotonic_ns()}", pure=False)
    try:
        yield
    finally:
        wanted.release()


def workers_of(client: Client) -> dict[str, dict[str, Any]]:
    """Return the scheduler's records of all workers, by address. Raises RunError if it is lost.

    Not by ``Client.scheduler_info``: it stores its answer, and a callback of the client replaces
    that every two seconds with a record without workers (distributed 2026.7).
    """
    try:
        identity = client.sync(client.scheduler.identity, n_workers=-1)
    except OSError as error:
        raise RunError(LOST_SCHEDULER) from error
    workers: dict[str, dict[str, Any]] = identity["workers"]
    return workers


def present_workers(client: Client) -> dict[str, dict[str, Any]]:
    """Return the scheduler's records of all workers, by address, once there are some.

    A worker that was killed is missing for seconds, until its nanny has started it again. Raises
    ClusterError if none has joined in time (:func:`set_worker_wait`), RunError if the scheduler is
    lost.
    """
    if workers := workers_of(client):
        return workers
    until = time.monotonic() + max(RESTART_S, _within_s.get(client, 0.0))
    with asking_for_a_worker(client):
        while not (workers := workers_of(client)):
            if time.monotonic() > until:
                raise ClusterError("the cluster has no workers: start workers, then run again")
            time.sleep(POLL_S)
    return workers


def check_reach(client: Client, locations: Iterable[Location]) -> None:
    """Raise if no workers join, or if they cannot see a ``memory://`` store."""
    addresses = list(present_workers(client))
    if any(location.scheme == "memory" for location in locations) and not all(
        address.startswith("inproc://") for address in addresses
    ):
        raise VolumeError(
            "memory:// exists in one process, and the workers are other processes: use a store "
            "that they can reach, or a client with processes=False"
        )


def device_share(client: Client) -> dict[str, float]:
    """Return the Dask resources that a block requests: one unit of the device.

    Empty if any worker lacks the resource: a task that requests it could wait forever. Without
    workers, the answer is the last one: others may wait in a queue for hours, and come once there
    are tasks. Raises ClusterError if none has ever joined.
    """
    workers = workers_of(client)
    if not workers and client in _last_share:
        return _last_share[client]
    records = (workers or present_workers(client)).values()
    offered = all(record["resources"].get(DEVICE_RESOURCE) for record in records)
    _last_share[client] = {DEVICE_RESOURCE: 1.0} if offered else {}
    return _last_share[client]
