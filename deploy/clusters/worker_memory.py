"""The memory of a worker, as far as the specification of a cluster states it."""

from __future__ import annotations

from .local import local_workers
from .machine import memory_bytes
from .spec import ClusterSpec


def worker_memory_bytes(spec: ClusterSpec) -> int | None:
    """Return the limit that Dask sets to a worker; None where it is known only once it runs.

    An eighth of a job's memory is not for its workers.
    """
    if spec.job is not None:
        return spec.job.memory_bytes * 7 // 8 // spec.job.workers
    if spec.kind != "local":
        return None
    workers, _ = local_workers(spec)
    return memory_bytes() // workers  # as dask.distributed's LocalCluster
