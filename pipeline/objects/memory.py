"""Checks before the start that a worker can hold its blocks."""

from __future__ import annotations

from distributed import Client

from ..base.errors import ClusterError, PlanError
from ..base.scheduling import workers_of
from ..base.text import size_text
from .prepare import PreparedObjects


def check_memory(prepared: PreparedObjects, client: Client) -> None:
    """Raise if there are no workers, or if one cannot hold a block for each of its threads."""
    workers = workers_of(client)
    if not workers:
        raise ClusterError("the cluster has no workers: start workers, then run again")
    for worker in workers.values():
        need = worker["nthreads"] * prepared.block_bytes
        has = worker.get("memory_limit") or need
        if need > has:
            raise PlanError(
                f"a worker needs {size_text(need)} of memory and has {size_text(has)}: "
                "use fewer workers, or smaller blocks (--block)"
            )
