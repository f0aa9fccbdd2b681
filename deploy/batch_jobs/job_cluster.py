"""Workers in batch jobs: a scheduler in this process, and a pool of jobs that end with it."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from pipeline.base.errors import ClusterError, RunError

from ..clusters.security import own_security, with_keys
from ..clusters.silence import WORKER_TTL
from ..clusters.spec import ClusterSpec
from ..tls.keys import made_keys
from .batch_system import BatchSystem
from .job_pool import JobPool, PoolConfig
from .logs import log_folder, make_log_folder
from .render_workers import render_workers
from .watchdog import Watchdog

if TYPE_CHECKING:
    from distributed import Client
    from distributed.deploy.spec import SpecCluster

REPORT_AFTER_S, REPORT_EVERY_S = 5.0, 60.0


@contextmanager
def open_jobs(spec: ClusterSpec, *, report: Callable[[str], None]) -> Iterator[Client]:
    """Yield a client once the first worker has joined; on exit, cancel all jobs.

    report: receives lines for the user while jobs wait. Raises ClusterError if no job starts, or
    none is long enough for a block; RunError if jobs keep failing during the run.
    """
    with open_pool(spec, report=report) as (client, pool):
        _wait_for_worker(pool, spec, report)
        try:
            yield client
        except Exception as error:
            if pool.is_too_short:
                raise ClusterError(pool.failure) from error
            if pool.failure is not None:
                raise RunError(f"{pool.failure}: run the same command again to resume") from error
            raise


@contextmanager
def open_pool(
    spec: ClusterSpec, *, report: Callable[[str], None]
) -> Iterator[tuple[Client, JobPool]]:
    """Yield a client of a scheduler in this process, and the pool of its jobs.

    Keys for TLS are made beside the logs of the jobs, a folder that all nodes see.
    """
    import dask
    from distributed import Client

    assert spec.job is not None
    job = spec.job
    batch = BatchSystem(spec.kind, marks="--comment" not in job.skip_directives, follows=True)
    logs = make_log_folder(log_folder(job))
    if has_jobqueue_settings(spec.kind):
        report(
            f"note: jobqueue.{spec.kind} of the Dask configuration (jobqueue.yaml) is not used: "
            "jobs follow the profile"
        )
    is_local = spec.dashboard.startswith("127.0.0.1:")  # the workers' network cannot reach it
    link = {"distributed.dashboard.link": "http://127.0.0.1:{port}/status"} if is_local else {}
    with (
        dask.config.set({**link, **WORKER_TTL}),
        with_keys(spec, logs) as spec,
        _scheduler(spec) as cluster,
        Watchdog(
            [batch.cancel_command], environment=batch.environment(), keys=made_keys(spec.tls)
        ) as watchdog,
        Client(cluster, set_as_default=False) as client,
    ):
        address = cluster.scheduler.contact_address or cluster.scheduler.address
        config = PoolConfig(
            job=job, slots=job.workers * spec.threads_per_worker,
            name=f"overtile-{uuid4().hex[:6]}", logs=logs,
            render=lambda name: render_workers(spec, scheduler=address, name=name, logs=logs),
        )  # fmt: skip
        with JobPool(
            cluster, batch, watchdog, config=config, report=report,
            on_failure=lambda: _close(client),
        ) as pool:  # fmt: skip
            yield client, pool


def has_jobqueue_settings(kind: str) -> bool:
    """Return whether a site or a user has settings for dask-jobqueue, which are not used here."""
    import dask

    settings = dask.config.get("jobqueue", None)
    own = settings.get(kind) if isinstance(settings, Mapping) else settings
    values = own.values() if isinstance(own, Mapping) else [own]
    return any(value is not None for value in values)


def _close(client: Client) -> None:
    """Close the client, so that nothing waits for its futures any longer."""
    with suppress(Exception):
        client.close(timeout=5)


@contextmanager
def _scheduler(spec: ClusterSpec) -> Iterator[SpecCluster]:
    """Yield a scheduler in this process, on the network interface that its workers use."""
    from distributed import Scheduler
    from distributed.deploy.spec import SpecCluster

    assert spec.job is not None
    security = own_security(spec)
    options = {
        "interface": spec.job.interface,
        "port": spec.scheduler_port,
        "protocol": "tls" if security else None,
        "security": security,
        "dashboard_address": spec.dashboard,
        "dashboard": True,
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Port \d+ is already in use")
        try:
            cluster = SpecCluster(
                scheduler={"cls": Scheduler, "options": options}, security=security,
                silence_logs=logging.CRITICAL,
            )  # fmt: skip
        except (RuntimeError, ValueError, OSError) as error:
            why = " ".join(str(error).split())
            raise ClusterError(
                f"cannot start a scheduler here ({why}): check interface and scheduler_port"
            ) from error
    with cluster:
        yield cluster


def _wait_for_worker(pool: JobPool, spec: ClusterSpec, report: Callable[[str], None]) -> None:
    """Return when the first worker has joined. Raises ClusterError if none can, or none does."""
    started = time.monotonic()
    report_at = started + REPORT_AFTER_S
    while not pool.first_worker.wait(0.1):
        now = time.monotonic()
        if pool.failure is not None:
            raise ClusterError(pool.failure)
        if now - started > spec.first_worker_limit_s:
            raise ClusterError(
                f"no worker joined within {spec.first_worker_limit_s:.0f} s ({pool.queue_text()}): "
                "increase first_worker_s, or request fewer resources"
            )
        if now >= report_at:
            report(f"waiting for the first worker: {pool.queue_text()}")
            report_at = now + REPORT_EVERY_S
