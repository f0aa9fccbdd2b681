"""Turns: ranks and other tasks share a cluster's devices by a Dask resource.

A worker of ours offers as many units of it as it has threads. A rank takes them all, a block takes
one: where ranks run, blocks wait, and the other way round. Dask starts what has the higher
priority as soon as the units are free, and never takes a unit from a task that runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

DEVICE = "device"
"""The resource; ``pipeline.base.scheduling`` has the same word."""
LINE = "overtile-ranks-"
"""How the names of lines begin; the keys of their ranks are ``(NAME-ATTEMPT, RANK)``."""
LOOK_EVERY_S = 1.0


def holds_back(worker: Mapping[str, Any]) -> bool:
    """Return whether tasks wait on a rank's worker for what the rank holds there.

    worker: its record in ``Client.scheduler_info``, a heartbeat old. A task waits for the device,
    or, where the worker has but one thread, for that.
    """
    counts = worker["metrics"].get("task_counts", {})
    waiting = counts.get("constrained", 0)
    if worker["nthreads"] == 1:
        waiting += counts.get("ready", 0)
    return bool(waiting > 0)


def gangs_assigned_to(client: Client, addresses: Collection[str]) -> set[str]:
    """Return the names of the lines whose ranks run on some workers, or wait there."""
    if not addresses:
        return set()
    processing = client.processing(list(addresses))
    groups = (key[0] for keys in processing.values() for key in keys if isinstance(key, tuple))
    names = (str(group).rpartition("-")[0] for group in groups)
    return {name for name in names if name.startswith(LINE)}


def let_others_run(
    client: Client, addresses: Collection[str], *, turn_s: float, stop: threading.Event
) -> None:
    """Wait for one turn, or until the workers have had nothing to do for two looks."""
    until = time.monotonic() + turn_s
    idle = 0
    while idle < 2 and time.monotonic() < until:
        if stop.wait(min(LOOK_EVERY_S, turn_s)):
            return
        idle = 0 if any(client.processing(list(addresses)).values()) else idle + 1
