"""Workers in batch jobs: a scheduler here, and jobs that come, leave in time, and end with it."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from pipeline.base.errors import ClusterError, RunError

from ..clusters.profiles import state_directory
from ..clusters.spec import ClusterSpec
from .batch_system import BatchSystem
from .job_pool import Keeper
from .render_workers import render_job
from .watchdog import Guard

if TYPE_CHECKING:
    from distributed import Client
    from distributed.deploy.spec import SpecCluster

TELL_AFTER_S, TELL_EVERY_S = 5.0, 60.0


@contextmanager
def open_jobs(spec: ClusterSpec, *, tell: Callable[[str], None]) -> Iterator[Client]:
    """Yield a client once the first worker came; on leaving, cancel all jobs.

    tell: is given a line where the jobs wait. Raises ClusterError where no job can be had, or none
    is long enough for a block; RunError where jobs keep failing during the run.
    """
    with kept_jobs(spec, tell=tell) as (client, keeper):
        _wait_for_worker(keeper, spec, tell)
        try:
            yield client
        except Exception as error:
            if keeper.is_too_short:
                raise ClusterError(keeper.failure) from error
            if keeper.failure is not None:
                raise RunError(f"{keeper.failure}: start the run again to go on") from error
            raise


@contextmanager
def kept_jobs(spec: ClusterSpec, *, tell: Callable[[str], None]) -> Iterator[tuple[Client, Keeper]]:
    """Yield a client of a scheduler here, and who keeps its jobs."""
    import dask
    from distributed import Client

    assert spec.job is not None
    batch = BatchSystem(spec.kind)
    logs = _log_directory(spec)
    is_ours = spec.dashboard.startswith("127.0.0.1:")  # where the workers' network is not heard
    told = {"distributed.dashboard.link": "http://127.0.0.1:{port}/status"} if is_ours else {}
    with dask.config.set(told), _scheduler(spec) as cluster, Guard(batch.cancel_command) as guard:
        address = cluster.scheduler.contact_address or cluster.scheduler.address
        with Client(cluster, set_as_default=False) as client, Keeper(
            cluster, batch, guard, job=spec.job, slots=spec.job.workers * spec.threads_per_worker,
            render=lambda name: render_job(spec, scheduler=address, name=name, logs=logs),
            name=f"overtile-{uuid4().hex[:6]}", logs=logs, tell=tell, lost=lambda: _close(client),
        ) as keeper:  # fmt: skip
            yield client, keeper


def _close(client: Client) -> None:
    """Close the client: whoever waits for its futures learns that there is nothing to wait for."""
    with suppress(Exception):
        client.close(timeout=5)


def _log_directory(spec: ClusterSpec) -> Path:
    assert spec.job is not None
    given = spec.job.log_directory
    logs = Path(given).expanduser().absolute() if given else state_directory() / "jobs"
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClusterError(f"log_directory {logs} cannot be made: {error.strerror}") from error
    return logs


@contextmanager
def _scheduler(spec: ClusterSpec) -> Iterator[SpecCluster]:
    """Yield a scheduler in this process, on the network interface that its workers use."""
    from distributed import Scheduler
    from distributed.deploy.spec import SpecCluster

    assert spec.job is not None
    options = {
        "interface": spec.job.interface,
        "port": spec.scheduler_port,
        "dashboard_address": spec.dashboard,
        "dashboard": True,
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Port \d+ is already in use")
        try:
            cluster = SpecCluster(
                scheduler={"cls": Scheduler, "options": options}, silence_logs=logging.CRITICAL
            )
        except (RuntimeError, ValueError, OSError) as error:
            said = " ".join(str(error).split())
            raise ClusterError(
                f"no scheduler could be started here ({said}): look at interface and scheduler_port"
            ) from error
    with cluster:
        yield cluster


def _wait_for_worker(keeper: Keeper, spec: ClusterSpec, tell: Callable[[str], None]) -> None:
    """Return when the first worker is there; ClusterError where none can come, or none does."""
    started = time.monotonic()
    tell_at = started + TELL_AFTER_S
    while not keeper.first_worker.wait(0.1):
        now = time.monotonic()
        if keeper.failure is not None:
            raise ClusterError(keeper.failure)
        if now - started > spec.patience_s:
            raise ClusterError(
                f"no worker came within {spec.patience_s:.0f} s ({keeper.queue_text()}): wait "
                "longer (first_worker_s), or ask for less"
            )
        if now >= tell_at:
            tell(f"waiting for the first worker: {keeper.queue_text()}")
            tell_at = now + TELL_EVERY_S
