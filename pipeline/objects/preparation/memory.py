"""Checks before the start: workers reach the stores and hold their blocks, the disk has room."""

from __future__ import annotations

import math
import os
import shutil
from typing import Final

from distributed import Client

from ...base.errors import OutputError, PlanError
from ...base.location import Location
from ...base.scheduling import check_reach, workers_of
from ...base.text import size_text
from .prepare import PreparedObjects

INTERMEDIATE_BYTES: Final = 1.0
LABEL_BYTES: Final = 0.5
"""Bytes on the disk per voxel. Measured on scores of FIB-25: 0.29 for components with filled holes,
0.37 for a watershed with agglomeration; labels with their coarser levels 0.09 to 0.13."""


def check_room(prepared: PreparedObjects) -> None:
    """Raise OutputError if a new local output does not fit the disk. Reads nothing else."""
    output = prepared.request.output
    if not output.is_local or prepared.output_action == "resumed":
        return
    voxels = math.prod(prepared.plan.shape)
    need, free = int(voxels * (INTERMEDIATE_BYTES + LABEL_BYTES)), free_bytes(output)
    if need > free:
        raise OutputError(
            f"{output} may need {size_text(need)}, intermediate results included, and its disk has "
            f"{size_text(free)} left: choose another disk"
        )


def free_bytes(output: Location) -> int:
    """Return the free bytes of the disk on which a local output lies or will lie."""
    path = output.path
    folder = next(one for one in (path, *path.parents) if os.path.isdir(one))
    return shutil.disk_usage(folder).free


def check_memory(prepared: PreparedObjects, client: Client) -> None:
    """Raise if a worker cannot hold a block for each of its threads, or cannot see a store."""
    check_reach(client, (prepared.scores.source.store, prepared.request.output))
    for worker in workers_of(client).values():
        need = worker["nthreads"] * prepared.block_bytes
        has = worker.get("memory_limit") or need
        if need > has:
            raise PlanError(
                f"a worker needs {size_text(need)} of memory and has {size_text(has)}: "
                "use fewer workers, or smaller blocks (--block)"
            )
