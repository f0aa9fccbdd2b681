"""The current workers, tasks and jobs of a started cluster."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.base.errors import ClusterError, RunError
from pipeline.base.workers import workers_of

from ..batch_jobs.batch_system import BatchSystem
from ..clusters.existing import check_answers
from ..clusters.security import security_of_existing
from ..clusters.spec import JOB_KINDS
from ..clusters.started import StartedCluster, has_ended, require_started

if TYPE_CHECKING:
    from distributed import Client

ANSWER_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """One worker."""

    name: str
    host: str
    threads: int
    status: str
    tasks: dict[str, int]
    """Number of its tasks, running or waiting, by kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    """A cluster that runs."""

    started: StartedCluster
    workers: tuple[WorkerStatus, ...]
    jobs: dict[str, str]
    """State of each job, as far as the batch system reports it."""


def cluster_status(name: str) -> ClusterStatus:
    """Return a cluster's status. Raises RunError if it no longer runs; ClusterError."""
    from distributed import Client

    started = require_started(name)
    if why := has_ended(started):
        raise RunError(f"{why}: start it again")
    try:
        security = security_of_existing(started.tls, address=started.address)
        check_answers(started.address, timeout_s=ANSWER_S, security=security)
    except ClusterError as error:
        raise RunError(f"cluster {name} on {started.host}: {error}") from error
    with Client(
        started.address, timeout=ANSWER_S, security=security, set_as_default=False
    ) as client:
        workers = _workers(client)
    queued = (BatchSystem(started.kind).queued() if started.kind in JOB_KINDS else None) or {}
    jobs = {job_id: queued.get(job_id, "submitted") for job_id in started.job_ids}
    return ClusterStatus(started=started, workers=workers, jobs=jobs)


def _workers(client: Client) -> tuple[WorkerStatus, ...]:
    from distributed.utils import key_split

    processing = client.processing()
    return tuple(
        WorkerStatus(
            name=str(record["name"]), host=record["host"], threads=record["nthreads"],
            status=record["status"],
            tasks=dict(Counter(key_split(key) for key in processing.get(address, ()))),
        )
        for address, record in workers_of(client).items()
    )  # fmt: skip
