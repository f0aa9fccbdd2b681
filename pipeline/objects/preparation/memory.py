"""Checks before the start that workers reach the stores and can hold their blocks."""

from __future__ import annotations

from distributed import Client

from ...base.errors import PlanError
from ...base.scheduling import check_reach, workers_of
from ...base.text import size_text
from .prepare import PreparedObjects


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
