"""Turns: ranks and other tasks share a cluster's devices by a Dask resource.

A worker of `open_cluster` offers as many units of it as it has threads. A rank takes all of them, a
block takes one: where a rank runs, blocks wait, and the other way round. Dask starts the task with
the higher priority as soon as the units are free, and never takes a unit from a task that runs.
So ranks leave of their own accord after a turn, let the other tasks run, and start again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

CHANNEL_PREFIX = "overtile-ranks-"
"""How the names of channels begin; the keys of their ranks are ``(CHANNEL-ATTEMPT, RANK)``."""
CHECK_EVERY_S = 1.0


def has_waiting_tasks(worker: Mapping[str, Any]) -> bool:
    """Return whether tasks on a rank's worker wait for what the rank holds there.

    worker: its record in the scheduler, a heartbeat old. A task waits for the device, or, where
    the worker has only one thread, for that.
    """
    counts = worker["metrics"].get("task_counts", {})
    waiting = counts.get("constrained", 0)
    if worker["nthreads"] == 1:
        waiting += counts.get("ready", 0)
    return bool(waiting > 0)


def channels_on(client: Client, addresses: Collection[str]) -> set[str]:
    """Return the names of the channels whose ranks run or wait on some workers."""
    if not addresses:
        return set()
    processing = client.processing(list(addresses))
    groups = (key[0] for keys in processing.values() for key in keys if isinstance(key, tuple))
    names = (str(group).rpartition("-")[0] for group in groups)
    return {name for name in names if name.startswith(CHANNEL_PREFIX)}


def let_others_run(
    client: Client, addresses: Collection[str], *, turn_s: float, stop: threading.Event
) -> None:
    """Wait for one turn, or until the workers have been idle for two checks in a row."""
    until = time.monotonic() + turn_s
    idle = 0
    while idle < 2 and time.monotonic() < until:
        if stop.wait(min(CHECK_EVERY_S, turn_s)):
            return
        idle = 0 if any(client.processing(list(addresses)).values()) else idle + 1
