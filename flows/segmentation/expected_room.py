"""What workers can spare, as far as the description of their cluster states it."""

from __future__ import annotations

from deploy import ClusterSpec
from deploy.clusters.local import local_workers
from deploy.clusters.machine import free_memory_bytes
from deploy.clusters.worker_memory import worker_memory_bytes
from pipeline.planning.tile_memory import WorkerRoom


def expected_room(spec: ClusterSpec) -> WorkerRoom | None:
    """Return the room of a worker, None where it is known only once the worker runs.

    A GPU is not expected: the workers are asked before the run begins.
    """
    memory_bytes = worker_memory_bytes(spec)
    if memory_bytes is None:
        return None
    if spec.kind == "local":
        workers, _ = local_workers(spec)
        memory_bytes = min(memory_bytes, free_memory_bytes() // workers)
    return WorkerRoom.rounded(memory_bytes)
