"""Worker processes on this machine, sized from its cores and memory; they end with the run."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from pipeline.base.errors import ClusterError
from pipeline.base.scheduling import DEVICE_RESOURCE
from pipeline.base.worker_profile import WORKER_PROFILE

from .fork_server import METHOD, start_fork_server, start_tracker
from .lost_workers import ended_if_all_are_lost, forget_lost
from .machine import cores, memory_bytes
from .security import own_security
from .silence import WORKER_TTL
from .spec import ClusterSpec
from .worker_environment import KEPT_MEMORY, restored, torch_threads

if TYPE_CHECKING:
    from distributed import Client, LocalCluster
    from distributed.nanny import WorkerProcess

Start: TypeAlias = "Callable[[ClusterSpec], LocalCluster]"
CLOSE_S = 20.0
"""How long a cluster may take to close before it is killed."""
KILL_S = 5.0
"""How long nannies, and then the scheduler, may take to notice that."""
MOST_WORKERS = 8
WORKER_MEMORY_BYTES = 4 * 2**30
"""Minimum memory of a worker if we choose their number: room for a tile and a few blocks."""

_ENVIRON = "distributed.nanny.pre-spawn-environ"
NOT_DAEMONS = {"distributed.worker.daemon": False}
"""Python lets daemons start no processes, and some models start some."""

SELDOM = {
    "distributed.admin.tick.interval": "500ms",  # of 20 ms, in the scheduler and every nanny too
    "distributed.worker.profile.interval": "100ms",  # of 10 ms
}
"""How often Dask profiles itself where it shares the workers' cores.

An idle scheduler with two nannies and two workers used 0.12 of a core by default, and 0.04 with
these settings.
"""


def local_workers(spec: ClusterSpec) -> tuple[int, int]:
    """Return the number of worker processes, and of torch's threads in each.

    If we choose the number, few cores remain unused: 12 cores have 6 workers of 2 threads.
    """
    fit = max(1, memory_bytes() // WORKER_MEMORY_BYTES)
    most = min(cores(), fit, MOST_WORKERS)
    numbers = range((most + 1) // 2, most + 1)
    workers = spec.workers or max(numbers, key=lambda number: (cores() // number * number, number))
    return workers, max(1, cores() // workers)


@contextmanager
def open_local(spec: ClusterSpec) -> Iterator[Client]:
    """Yield a client of worker processes on this machine."""
    import dask

    # Kept until the end: it holds for workers that replace killed ones, too.
    method = {"distributed.worker.multiprocessing-method": METHOD}
    with dask.config.set(method), open_on_this_machine(spec, _start_workers) as client:
        yield client


@contextmanager
def open_on_this_machine(spec: ClusterSpec, start: Start) -> Iterator[Client]:
    """Yield a client of the cluster that ``start`` starts; on exit, end the cluster.

    start: runs in a separate thread, in which Ctrl-C is blocked.
    """
    with (
        _unchanged_environment(),
        ThreadPoolExecutor(1, thread_name_prefix="start-cluster") as pool,
    ):
        starting = pool.submit(_start, spec, start)
        try:
            cluster = starting.result()
        except BaseException:  # Ctrl-C: a half-started cluster cannot be ended
            with suppress(Exception):
                _end(starting.result(), at_once=True)
            raise
    with _unchanged_environment():
        yield from _client_of(cluster)


def _unchanged_environment() -> AbstractContextManager[None]:
    """Restore the variables for threads and memory in this process's environment.

    A nanny runs in this process, and writes its worker's variables into our environment. The next
    cluster would mistake them for the user's, and other processes would inherit them.
    """
    import dask

    return restored({*torch_threads(1), *KEPT_MEMORY, *dask.config.get(_ENVIRON)})


def _client_of(cluster: LocalCluster) -> Iterator[Client]:
    """Yield a client, and end the cluster."""
    from distributed import Client

    try:
        with (
            _restart_lost_workers(),
            Client(cluster, set_as_default=False) as client,
            ended_if_all_are_lost(cluster, client),
        ):
            yield client
    except BaseException:
        _end(cluster, at_once=True)
        raise
    _end(cluster, at_once=False)


@contextmanager
def _restart_lost_workers() -> Iterator[None]:
    """Let the nannies alone restart workers, which may start processes as the first ones may.

    distributed (2026.7) checks 15 s after a worker was lost whether one of its name exists. If that
    worker has just died again, distributed ends its nanny, and the worker is never restarted.
    """
    import dask

    settings = {"distributed.deploy.lost-worker-timeout": "1000 days", **NOT_DAEMONS}
    with dask.config.set(settings):
        yield


def _start(spec: ClusterSpec, start: Start) -> LocalCluster:
    """Start a cluster; runs in a separate thread.

    A terminal sends Ctrl-C to all its processes, but only the driver should handle it. So the
    signal is blocked in the thread that starts the workers: they inherit the mask.
    """
    start_tracker()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Port \d+ is already in use")
        return start(spec)


def _start_workers(spec: ClusterSpec) -> LocalCluster:
    import dask
    from distributed import LocalCluster

    workers, threads = local_workers(spec)
    start_fork_server()
    security = own_security(spec)
    start = partial(
        LocalCluster,
        n_workers=workers,
        threads_per_worker=spec.threads_per_worker,
        resources={DEVICE_RESOURCE: spec.threads_per_worker},
        host="127.0.0.1",
        dashboard_address=spec.dashboard,
        security=security,
        preload=["deploy.clusters.forked", "deploy.clusters.steady_clock"],
        silence_logs=logging.CRITICAL,  # in the workers; for this process see cluster.quiet
    )
    with dask.config.set(worker_settings(threads)):
        try:
            with suppress(RuntimeError):
                return start()
            return start()  # a worker was killed while it started: its nanny gives up then
        except RuntimeError as error:
            raise ClusterError(
                f"cannot start {workers} worker processes ({error}): check the free memory, and "
                "that the program is guarded by `if __name__ == '__main__'`"
            ) from error


def worker_settings(threads: int) -> dict[str, object]:
    """Return Dask's settings for the workers that it starts. threads: of torch, in each worker.

    The user's environment takes precedence; OMP_NUM_THREADS counts for both variables.
    """
    variables = {**torch_threads(os.environ.get("OMP_NUM_THREADS", threads)), **KEPT_MEMORY}
    return {
        **{f"{_ENVIRON}.{name}": value for name, value in variables.items()},
        **NOT_DAEMONS,
        **SELDOM,
        **WORKER_PROFILE,
        **WORKER_TTL,
    }


def _end(cluster: LocalCluster, *, at_once: bool) -> None:
    """End the worker processes; ``at_once``: without waiting for their running tasks."""
    # Kept here: a nanny that gives up on its process forgets it (distributed 2026.8).
    processes = [nanny.process for nanny in cluster.workers.values()]
    forget_lost(cluster)
    if at_once:
        _kill_workers(cluster, processes)
    try:
        cluster.close(timeout=CLOSE_S)
    except TimeoutError:  # on a busy machine a nanny gives up on a process that was killed
        _kill_workers(cluster, processes)
        cluster.shutdown_on_close = False  # closing again, at exit, would wait for that nanny
        for step in (partial(_nannies_finished, cluster), cluster.scheduler.close):
            with suppress(TimeoutError):
                cluster.sync(step, callback_timeout=KILL_S)


async def _nannies_finished(cluster: LocalCluster) -> None:
    await asyncio.gather(*(nanny.finished() for nanny in cluster.workers.values()))


def _kill_workers(cluster: LocalCluster, processes: list[WorkerProcess | None]) -> None:
    for nanny in cluster.workers.values():
        nanny.close_gracefully()  # it does not restart its worker
    for process in processes:
        if process is not None and process.pid is not None:  # it has not ended already
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
