"""Places: which workers have which rank."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import RunError

from .turns import DEVICE

if TYPE_CHECKING:
    from distributed import Client

WAIT_S = 0.2
LOST_SCHEDULER = (
    "the ranks were cancelled, or the Dask scheduler was lost: start the run again to go on"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One worker, which takes one rank."""

    address: str
    device_units: float
    """All that the worker offers; 0 where it has no such resource."""


def workers_of(client: Client) -> Mapping[str, Mapping[str, Any]]:
    """Return the scheduler's records of all workers, by address. Raises RunError.

    Not by ``Client.scheduler_info``: it stores what it fetched, and a callback of the client puts a
    record without workers in that place every two seconds (distributed 2026.7). All seem lost then.
    """
    try:
        identity = client.sync(client.scheduler.identity, n_workers=-1)
    except OSError as error:
        raise RunError(LOST_SCHEDULER) from error
    records: Mapping[str, Mapping[str, Any]] = identity["workers"]
    return records


def find_places(client: Client, *, barred: Collection[str] = ()) -> list[Place]:
    """Return a place per worker that runs, neighbours next to each other."""
    fit = [
        (record["host"], address, record["resources"].get(DEVICE, 0))
        for address, record in workers_of(client).items()
        if record["status"] == "running" and address not in barred
    ]
    return [Place(address=address, device_units=units) for _, address, units in sorted(fit)]


def wait_for_places(
    client: Client,
    *,
    wanted: int,
    within_s: float,
    stop: threading.Event,
    barred: Collection[str] = (),
) -> list[Place]:
    """Return ``wanted`` places as soon as there are so many, otherwise those there are in time."""
    until = time.monotonic() + within_s
    while True:
        places = find_places(client, barred=barred)
        if len(places) >= wanted or time.monotonic() >= until or stop.wait(WAIT_S):
            return places[:wanted]


def restart_workers(client: Client, addresses: Collection[str]) -> set[str]:
    """End the processes of workers, whatever runs in them; return those that nobody can restart."""
    unkillable = set()
    for address in addresses:
        try:
            client.restart_workers([address], timeout=30, raise_for_error=False)
        except ValueError:  # it has no nanny
            unkillable.add(address)
        except TimeoutError:  # its nanny is gone as well: the scheduler has removed it
            continue
    return unkillable
