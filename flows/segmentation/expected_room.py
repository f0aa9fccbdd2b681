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
    workers = expected_workers(spec)
    if spec.kind == "local" and workers:
        memory_bytes = min(memory_bytes, free_memory_bytes() // workers)
    return WorkerRoom.rounded(memory_bytes, workers=workers)


def expected_workers(spec: ClusterSpec) -> int | None:
    """Return the number of workers; None for jobs that follow the work, or a running cluster."""
    if spec.kind == "local":
        return local_workers(spec)[0]
    if spec.job is None or spec.job.maximum_jobs is not None:
        return None
    return spec.job.most * spec.job.workers
