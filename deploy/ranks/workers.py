"""The workers that take the ranks: found, waited for, and restarted."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.base.scheduling import DEVICE_RESOURCE
from pipeline.base.workers import workers_of

if TYPE_CHECKING:
    from distributed import Client

WAIT_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class RankWorker:
    """One worker, which takes one rank."""

    address: str
    device_units: float
    """All that the worker offers; 0 where it has no such resource."""


def running_workers(client: Client, *, excluded: Collection[str] = ()) -> list[RankWorker]:
    """Return the workers that run, those of one host next to each other."""
    fit = [
        (record["host"], address, record["resources"].get(DEVICE_RESOURCE, 0))
        for address, record in workers_of(client).items()
        if record["status"] == "running" and address not in excluded
    ]
    return [RankWorker(address=address, device_units=units) for _, address, units in sorted(fit)]


def wait_for_workers(
    client: Client,
    *,
    wanted: int,
    within_s: float,
    stop: threading.Event,
    excluded: Collection[str] = (),
) -> list[RankWorker]:
    """Return ``wanted`` workers as soon as so many run; fewer when the time is over or on stop."""
    until = time.monotonic() + within_s
    while True:
        workers = running_workers(client, excluded=excluded)
        if len(workers) >= wanted or time.monotonic() >= until or stop.wait(WAIT_S):
            return workers[:wanted]


def restart_workers(client: Client, addresses: Collection[str]) -> set[str]:
    """End the processes of workers, whatever they run; return those that cannot be restarted."""
    without_nanny = set()
    for address in addresses:
        try:
            client.restart_workers([address], timeout=30, raise_for_error=False)
        except ValueError:  # it has no nanny
            without_nanny.add(address)
        except TimeoutError:  # its nanny is gone as well: the scheduler has removed it
            continue
    return without_nanny
