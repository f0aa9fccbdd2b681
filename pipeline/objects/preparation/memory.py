"""Checks before the start: workers reach the stores and hold their blocks, the disk has room."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from ...base.errors import OutputError
from ...base.location import Location
from ...base.text import size_text
from ...base.worker_memory import check_worker_memory
from ...base.workers import check_reach, present_workers
from .prepared import PreparedObjects

if TYPE_CHECKING:  # `overtile plan` must not import distributed
    from distributed import Client


def check_room(prepared: PreparedObjects) -> None:
    """Raise OutputError if a new local output does not fit the disk. Reads nothing else."""
    output = prepared.request.output
    if not output.is_local or prepared.output_action == "resumed":
        return
    need, free = prepared.budget.disk_bytes, free_bytes(output)
    if need > free:
        raise OutputError(
            f"{output} may need {size_text(need)}, intermediate results included, and its disk has "
            f"{size_text(free)} left: free some space, or choose another disk"
        )


def free_bytes(output: Location) -> int:
    """Return the free bytes of the disk on which a local output lies or will lie."""
    path = output.path
    folder = next(one for one in (path, *path.parents) if os.path.isdir(one))
    return shutil.disk_usage(folder).free


def check_memory(prepared: PreparedObjects, client: Client) -> None:
    """Raise if a worker cannot hold a block for each of its threads, or cannot see a store."""
    request = prepared.request
    others = filter(None, (request.reused, request.earlier))
    check_reach(client, (prepared.scores.source.store, request.output, *others))
    for worker in present_workers(client).values():
        check_worker(prepared, threads=worker["nthreads"], memory_bytes=worker.get("memory_limit"))


def check_worker(prepared: PreparedObjects, *, threads: int, memory_bytes: int | None) -> None:
    """Raise PlanError if a worker cannot hold a block for each thread; None or 0: no limit."""
    check_worker_memory(
        threads * prepared.budget.block_memory_bytes,
        has_bytes=memory_bytes, smaller="smaller blocks (--block)",
    )  # fmt: skip
