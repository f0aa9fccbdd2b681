"""What a started cluster does at this moment."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.base.errors import ClusterError, RunError
from pipeline.base.scheduling import workers_of

from ..batch_jobs.batch_system import BatchSystem
from ..clusters.existing import check_answers
from ..clusters.spec import JOB_KINDS
from ..clusters.started import Started, find_started, is_running, last_words, names_text

if TYPE_CHECKING:
    from distributed import Client

ANSWER_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLook:
    """One worker."""

    name: str
    host: str
    threads: int
    status: str
    tasks: dict[str, int]
    """What it has in hand, by kind of task: computed now or next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterLook:
    """A cluster that runs."""

    started: Started
    workers: tuple[WorkerLook, ...]
    jobs: dict[str, str]
    """State of each job, as far as the batch system tells."""


def look_at_cluster(name: str) -> ClusterLook:
    """Return what a cluster does. Raises RunError where it runs no more."""
    from distributed import Client

    started = find_started(name)
    if started is None:
        raise ClusterError(f"no cluster {name} was started; there is {names_text()}")
    if started.is_here and not is_running(name):
        raise RunError(
            f"cluster {name} has ended by itself ({last_words(name) or 'silently'}): start it again"
        )
    try:
        check_answers(started.address, timeout_s=ANSWER_S)
    except ClusterError as error:
        raise RunError(f"cluster {name} on {started.host}: {error}") from error
    with Client(started.address, timeout=ANSWER_S, set_as_default=False) as client:
        workers = _workers(client)
    queued = (BatchSystem(started.kind).queued() if started.kind in JOB_KINDS else None) or {}
    jobs = {job_id: queued.get(job_id, "submitted") for job_id in started.job_ids}
    return ClusterLook(started=started, workers=workers, jobs=jobs)


def _workers(client: Client) -> tuple[WorkerLook, ...]:
    from distributed.utils import key_split

    processing = client.processing()
    return tuple(
        WorkerLook(
            name=str(record["name"]), host=record["host"], threads=record["nthreads"],
            status=record["status"],
            tasks=dict(Counter(key_split(key) for key in processing.get(address, ()))),
        )
        for address, record in workers_of(client).items()
    )  # fmt: skip
