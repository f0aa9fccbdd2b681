"""Lets a worker leave before its job's walltime: it finishes its tasks, and accepts no others.

Loaded by workers in jobs (``dask worker --preload deploy.batch_jobs.drain``). Dask's own
``--lifetime`` computes running tasks again on other workers (docs/decisions/0006).

    start ------------------- drain ------------------- close - walltime
          accepts tasks       | returns waiting tasks,  | ends in any case
                              | finishes running ones   |

Running tasks and the return of waiting ones are not part of distributed's documented interface.
Where a release of distributed lacks them, a worker leaves by its ``close_gracefully``: no task is
lost, but running ones are computed again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..clusters.gpu import missing_gpu
from ..clusters.rejoin import rejoin_after_standstill
from .departure import TOPIC, Departure

if TYPE_CHECKING:
    from distributed import Worker

POLL_S = 0.1
COLLECT_S = 10.0
"""How long the driver may take to fetch results before they are moved to other workers."""
STAGGER = 0.25
"""Workers start to drain earlier by a random fraction of the drain, at most this one, so that not
all jobs end at once."""
_WAITING = ("ready", "constrained", "waiting")

log = logging.getLogger("distributed.worker")
_drains: set[asyncio.Task[None]] = set()


def dask_setup(worker: Worker) -> None:
    """Schedule the drain; called by Dask in every worker.

    Exits if a GPU or the job's times are missing: Dask ignores other exceptions.
    """
    if os.environ.get("OVERTILE_NEEDS_GPU") and (why := missing_gpu()):
        raise SystemExit(why)
    try:
        ends_at = float(os.environ["OVERTILE_JOB_ENDS_AT"])
        drain_s = float(os.environ["OVERTILE_DRAIN_S"])
        close_at = ends_at - float(os.environ["OVERTILE_CLOSE_S"])
    except KeyError as error:
        why = f"{error} is not set: configure the container to pass the job's environment on"
        raise SystemExit(why) from None
    drain_at = ends_at - drain_s * (1 + STAGGER * random.random())  # noqa: S311
    leave_in_time(worker, drain_at=drain_at, close_at=close_at)
    rejoin_after_standstill(worker)


def leave_in_time(worker: Worker, *, drain_at: float, close_at: float) -> None:
    """Schedule a worker's departure; called on its event loop.

    drain_at: when it stops accepting tasks. close_at: when it ends in any case. Both in seconds on
    the clock of its machine; from now on, setting that clock changes neither.
    """
    shift_s = time.monotonic() - time.time()
    leaving = _leave(worker, drain_at + shift_s, close_at + shift_s)
    task = asyncio.get_running_loop().create_task(leaving)
    _drains.add(task)
    task.add_done_callback(_drains.discard)


async def _leave(worker: Worker, drain_at: float, close_at: float) -> None:
    """Wait, drain and close. All times in seconds of the monotonic clock."""
    began_at = time.monotonic()
    await asyncio.sleep(max(0.0, drain_at - time.monotonic()))
    log.info("The job's walltime is near: %s accepts no more tasks", worker.address)
    if not can_drain(worker):
        log.warning("This release of distributed cannot drain: running tasks are computed again")
        await worker.close_gracefully(reason="walltime")
        return
    await _drain(worker, close_at, began_at)
    with suppress(OSError, asyncio.TimeoutError):  # the scheduler may have ended
        await asyncio.wait_for(
            worker.scheduler.retire_workers(workers=[worker.address], close_workers=False),
            timeout=max(1.0, close_at - time.monotonic()),
        )
    await worker.close(reason="walltime", timeout=max(1.0, close_at - time.monotonic()))


def can_drain(worker: Worker) -> bool:
    """Return whether this release of distributed has all that a drain uses."""
    state = getattr(worker, "state", None)
    names = ("tasks", "all_running_tasks", "executed_count")
    return hasattr(worker, "batched_send") and all(hasattr(state, name) for name in names)


async def _drain(worker: Worker, close_at: float, began_at: float) -> None:
    """Finish the running tasks, then wait until their results have been fetched."""
    from distributed.core import Status

    worker.status = Status.closing_gracefully  # the scheduler is notified, and sends no more tasks
    while worker.state.all_running_tasks and time.monotonic() < close_at:
        _return_waiting(worker)
        await asyncio.sleep(POLL_S)
    worker.log_event(TOPIC, asdict(_departure(worker, began_at)))
    collect_by = min(close_at, time.monotonic() + COLLECT_S)
    while worker.data and time.monotonic() < collect_by:
        _return_waiting(worker)
        await asyncio.sleep(POLL_S)


def _departure(worker: Worker, began_at: float) -> Departure:
    """Return the message. Ranks of a training do not count as cut: they occupy workers by design.

    Their priority (ranks/attempt.py) marks them; Dask stores it with its sign reversed.
    """
    begun = [
        task.start_time for task in worker.state.all_running_tasks
        if task.start_time is not None and task.priority is not None and task.priority[0] >= 0
    ]  # fmt: skip
    return Departure(
        name=str(worker.name),
        tasks_done=worker.state.executed_count,
        ran_s=time.time() - min(begun) if begun else 0.0,  # Dask's clock
        life_s=time.monotonic() - began_at,
    )


def _return_waiting(worker: Worker) -> None:
    """Return tasks that have not started here to the scheduler, for other workers."""
    for task in list(worker.state.tasks.values()):
        if task.state in _WAITING and task.run_spec is not None:
            worker.batched_send(
                {"op": "reschedule", "key": task.key, "stimulus_id": f"drain-{time.time()}"}
            )
