"""What the workers of a cluster can spare: asked of them, before the plan is made."""

from __future__ import annotations

import os
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import psutil
from distributed import Client

from ..base.errors import OvertileError, RunError
from ..base.scheduling import run_all
from ..base.workers import present_workers
from ..models.protocol import Predictor, UsesDevice
from ..planning.tile_memory import WorkerRoom
from .prepare import Prepared, depends_on_room, planned_for


def fit_to_workers(prepared: Prepared, client: Client) -> Prepared:
    """Return the plan for what the workers can spare, where the request leaves this open.

    Asks them once. Raises PlanError where the network does not fit, ClusterError without workers.
    """
    if not depends_on_room(prepared) or (prepared.room and prepared.room.is_asked):
        return prepared
    room = ask_workers(client, prepared.predictor)
    if room is None:
        return prepared
    expected = prepared.room.workers if prepared.room else None  # some may not have started yet
    return planned_for(prepared, replace(room, workers=max(room.workers or 1, expected or 1)))


def ask_workers(client: Client, predictor: Predictor) -> WorkerRoom | None:
    """Return what each of the workers that are connected can spare; None where none can tell.

    A worker can spare its memory limit, or its share of what is free on its machine if that is
    less. The GPU is asked on one worker: those of a cluster are taken to be alike. Workers that see
    the same GPUs of a machine share the first of these. What a worker cannot answer shows in the
    checks of the run.
    """
    workers = present_workers(client)
    free = {
        address: found
        for address, found in client.run(_free_bytes, on_error="return").items()
        if isinstance(found, tuple) and address in workers
    }
    if not free:
        return None
    on_host = Counter(workers[address]["host"] for address in free)
    on_gpu = Counter((workers[address]["host"], gpus) for address, (_, gpus) in free.items())
    memory_bytes = min(
        min(workers[address].get("memory_limit") or size, size // on_host[workers[address]["host"]])
        for address, (size, _) in free.items()
    )
    device_bytes = ask_device(client, predictor)
    if device_bytes is not None:
        device_bytes //= max(on_gpu.values())
    return replace(WorkerRoom.rounded(memory_bytes, device_bytes, workers=len(free)), is_asked=True)


def ask_device(client: Client, predictor: Predictor) -> int | None:
    """Return the free memory of a worker's GPU; None where the network runs on its processor."""
    if not isinstance(predictor, UsesDevice):
        return None
    calls = [(_free_device_bytes, (predictor,))]
    stop = threading.Event()
    with suppress(OvertileError, RunError):
        found: list[int | None] = run_all(
            client, calls, key="ask-device", token=uuid4().hex, stop=stop, retries=0
        )
        return found[0]
    return None


def _free_bytes() -> tuple[int, str | None]:
    """Return the memory of this machine that is free or in use here, and the GPUs it may use."""
    free = int(psutil.virtual_memory().available + psutil.Process().memory_info().rss)
    return free, os.environ.get("CUDA_VISIBLE_DEVICES")


def _free_device_bytes(predictor: UsesDevice) -> int | None:
    return predictor.free_device_bytes()
