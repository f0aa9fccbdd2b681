"""A worker leaves before its job's walltime: no new tasks, what runs finishes, then it closes.

Loaded by workers in jobs (``dask worker --preload deploy.batch_jobs.drain``). Dask's own
``--lifetime`` computes what runs once more elsewhere (docs/decisions/0006).

    start ------------------------- drain ------- close - walltime
          takes tasks               | gives back  | ends in any case
                                    | what waits, |
                                    | finishes    |
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ..clusters.gpu import missing_gpu

if TYPE_CHECKING:
    from distributed import Worker

LOOK_S = 0.1
COLLECT_S = 10.0
"""How long results may stay for the driver to fetch before they are moved to other workers."""
STAGGER = 0.25
"""Share of the drain by which workers begin it earlier at random: not all jobs at one moment."""
LEFT_TOPIC = "overtile-left"
"""Of the event by which a worker tells that it leaves: ``{"name", "done", "ran_s", "life_s"}``.
How many tasks it did, how long the one that it closes on ran (0: none), and how long it lived."""
_WAITING = ("ready", "constrained", "waiting")

log = logging.getLogger("distributed.worker")
_drains: set[asyncio.Task[None]] = set()


def dask_setup(worker: Worker) -> None:
    """Begin to watch the clock; called by Dask in every worker.

    Exits where a GPU is missing, or the job's times are: Dask goes on after other exceptions.
    """
    if os.environ.get("OVERTILE_NEEDS_GPU") and (why := missing_gpu()):
        raise SystemExit(why)
    try:
        ends_at = float(os.environ["OVERTILE_JOB_ENDS_AT"])
        drain_s = float(os.environ["OVERTILE_DRAIN_S"])
        close_at = ends_at - float(os.environ["OVERTILE_CLOSE_S"])
    except KeyError as error:
        said = f"{error} is not set: let the container pass the job's environment on"
        raise SystemExit(said) from None
    drain_at = ends_at - drain_s * (1 + STAGGER * random.random())  # noqa: S311
    leave_in_time(worker, drain_at=drain_at, close_at=close_at)


def leave_in_time(worker: Worker, *, drain_at: float, close_at: float) -> None:
    """Let a worker leave its cluster; called on its event loop.

    drain_at, close_at: from when on it takes no tasks, and when it ends in any case; seconds on
    the clock of its machine.
    """
    task = asyncio.get_running_loop().create_task(_leave(worker, drain_at, close_at))
    _drains.add(task)
    task.add_done_callback(_drains.discard)


async def _leave(worker: Worker, drain_at: float, close_at: float) -> None:
    from distributed.core import Status

    began_at = time.time()
    await asyncio.sleep(max(0.0, drain_at - time.time()))
    log.info("The job's walltime is near: no more tasks for %s", worker.address)
    worker.status = Status.closing_gracefully  # the scheduler hears of it, and sends no more
    while worker.state.all_running_tasks and time.time() < close_at:
        _give_back(worker)
        await asyncio.sleep(LOOK_S)
    _tell_of_leaving(worker, began_at)
    collect_by = min(close_at, time.time() + COLLECT_S)
    while worker.data and time.time() < collect_by:
        _give_back(worker)
        await asyncio.sleep(LOOK_S)
    with suppress(OSError, asyncio.TimeoutError):  # the scheduler may be gone before us
        await asyncio.wait_for(
            worker.scheduler.retire_workers(workers=[worker.address], close_workers=False),
            timeout=max(1.0, close_at - time.time()),
        )
    await worker.close(reason="walltime", timeout=max(1.0, close_at - time.time()))


def _tell_of_leaving(worker: Worker, began_at: float) -> None:
    """Log an event. Ranks do not count as cut: they hold workers by intent.

    Ranks are known by their priority (ranks/attempt.py), which Dask keeps with its sign turned.
    """
    now = time.time()
    begun = [
        task.start_time for task in worker.state.all_running_tasks
        if task.start_time is not None and task.priority is not None and task.priority[0] >= 0
    ]  # fmt: skip
    told = {
        "name": str(worker.name), "done": worker.state.executed_count,
        "ran_s": now - min(begun) if begun else 0.0, "life_s": now - began_at,
    }  # fmt: skip
    worker.log_event(LEFT_TOPIC, told)


def _give_back(worker: Worker) -> None:
    """Let the scheduler give tasks that have not begun here to other workers."""
    for task in list(worker.state.tasks.values()):
        if task.state in _WAITING and task.run_spec is not None:
            worker.batched_send(
                {"op": "reschedule", "key": task.key, "stimulus_id": f"drain-{time.time()}"}
            )
