"""Worker processes on this machine, sized from its cores and memory; they end with the run."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, TypeAlias

from pipeline.base.errors import ClusterError
from pipeline.base.scheduling import DEVICE_RESOURCE

from .spec import ClusterSpec

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

Start: TypeAlias = "Callable[[ClusterSpec], LocalCluster]"
CLOSE_S = 20.0
"""How long a cluster may take to close before it is ended by force."""
MOST_WORKERS = 8
WORKER_MEMORY_BYTES = 4 * 2**30
"""What a worker has at least, where their number is ours to choose: a tile and a few blocks."""

KEPT_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(10**12), "MALLOC_MMAP_MAX_": "0", "MALLOC_ARENA_MAX": "1",
}  # fmt: skip
"""What glibc is told in a worker: keep what is freed, in one place for all threads.

A network asks for the same large pieces again and again. By default, and with Dask's own setting,
each is given back to the system, which then has to clear it anew; and so it is in any thread that
has an arena of its own, whatever the other two say. A tile of a 2-D network of base 32 took 3.8 s
so, and 3.05 s with all three.
"""

_ENVIRON = "distributed.nanny.pre-spawn-environ"

SELDOM = {
    "distributed.admin.tick.interval": "500ms",  # of 20 ms, in the scheduler and every nanny too
    "distributed.worker.profile.interval": "100ms",  # of 10 ms
}
"""How often Dask looks at itself where it shares the workers' cores.

Scheduler, two nannies and two workers that had nothing to do took 0.12 of a core by default, and
0.04 so: a network would have had them.
"""


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def torch_threads(number: int | str) -> dict[str, str]:
    """Return what a worker is told so that torch computes with so many threads.

    Where torch is built with MKL, MKL_NUM_THREADS decides; and Dask's nanny sets both to 1 unless
    they are set before.
    """
    return {"OMP_NUM_THREADS": str(number), "MKL_NUM_THREADS": str(number)}


def memory_bytes() -> int:
    """Return the memory that this process may use."""
    from distributed.system import MEMORY_LIMIT

    return int(MEMORY_LIMIT)


def local_workers(spec: ClusterSpec) -> tuple[int, int]:
    """Return how many worker processes, and how many of torch's threads in each.

    Where their number is ours to choose, few cores are left over: 12 have 6 workers of 2 threads.
    """
    fit = max(1, memory_bytes() // WORKER_MEMORY_BYTES)
    most = min(cores(), fit, MOST_WORKERS)
    numbers = range((most + 1) // 2, most + 1)
    workers = spec.workers or max(numbers, key=lambda number: (cores() // number * number, number))
    return workers, max(1, cores() // workers)


@contextmanager
def open_local(spec: ClusterSpec) -> Iterator[Client]:
    """Yield a client of worker processes here."""
    with opened_here(spec, _start_workers) as client:
        yield client


@contextmanager
def opened_here(spec: ClusterSpec, start: Start) -> Iterator[Client]:
    """Yield a client of what ``start`` starts on this machine, and end that.

    start: runs in a thread of its own, in which Ctrl-C is blocked.
    """
    with _environment_kept(), ThreadPoolExecutor(1, thread_name_prefix="start-cluster") as pool:
        starting = pool.submit(_start, spec, start)
        try:
            cluster = starting.result()
        except BaseException:  # Ctrl-C: a cluster that is half started cannot be ended
            with suppress(Exception):
                _end(starting.result(), at_once=True)
            raise
    with _environment_kept():
        yield from _client_of(cluster)


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Leave this process what it was told of threads and memory.

    A nanny writes what its worker is to be told into the environment of its own process, ours: the
    next cluster would take it for what the user said, and other processes inherit it.
    """
    import dask

    names = {*torch_threads(1), *KEPT_MEMORY, *dask.config.get(_ENVIRON)}
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _client_of(cluster: LocalCluster) -> Iterator[Client]:
    """Yield a client, and end the cluster."""
    from distributed import Client

    try:
        with _lost_workers_come_back(), Client(cluster, set_as_default=False) as client:
            yield client
    except BaseException:
        _end(cluster, at_once=True)
        raise
    _end(cluster, at_once=False)


@contextmanager
def _lost_workers_come_back() -> Iterator[None]:
    """Leave it to the nannies to start workers again.

    distributed (2026.7) looks 15 s after a worker was lost whether one of its name is there; if it
    has just died once more, its nanny is ended, and the worker never comes back.
    """
    import dask

    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1000 days"}):
        yield


def _start(spec: ClusterSpec, start: Start) -> LocalCluster:
    """Start a cluster; runs in a thread of its own.

    A terminal sends Ctrl-C to every process in it. The workers are to leave it to us, so it is
    blocked where they are started from: threads and processes inherit what is blocked.
    """
    _start_tracker()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Port \d+ is already in use")
        return start(spec)


def _start_workers(spec: ClusterSpec) -> LocalCluster:
    import dask
    from distributed import LocalCluster

    workers, threads = local_workers(spec)
    with dask.config.set(worker_settings(threads)):
        try:
            return LocalCluster(
                n_workers=workers,
                threads_per_worker=spec.threads_per_worker,
                resources={DEVICE_RESOURCE: spec.threads_per_worker},
                host="127.0.0.1",
                dashboard_address=spec.dashboard,
                silence_logs=logging.CRITICAL,  # in the workers; here see cluster.quiet
            )
        except RuntimeError as error:
            raise ClusterError(
                f"{workers} worker processes could not be started here ({error}): is there memory "
                "for them, and does the program that asks for them guard its own start with "
                "`if __name__ == '__main__'`?"
            ) from error


def worker_settings(threads: int) -> dict[str, object]:
    """Return what Dask is told of the workers that it starts, each with so many of torch's threads.

    What the user's own environment says of a variable goes before; OMP_NUM_THREADS of it for both.
    """
    told = {**torch_threads(os.environ.get("OMP_NUM_THREADS", threads)), **KEPT_MEMORY}
    return {
        **{f"{_ENVIRON}.{name}": value for name, value in told.items()},
        "distributed.worker.daemon": False,
        **SELDOM,
    }


def _start_tracker() -> None:
    """Start multiprocessing's tracker, which removes the semaphores of processes that were killed.

    It need not tell a user so. Started later, it would take back what we block: CPython's
    resource_tracker.ensure_running unblocks SIGINT in the thread that first needs it.
    """
    before = os.environ.get("PYTHONWARNINGS")
    quiet = "ignore:resource_tracker:UserWarning"
    os.environ["PYTHONWARNINGS"] = f"{before},{quiet}" if before else quiet
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


def _end(cluster: LocalCluster, *, at_once: bool) -> None:
    """End the worker processes; ``at_once``: without waiting for their running tasks."""
    if at_once:
        _kill_workers(cluster)
    try:
        cluster.close(timeout=CLOSE_S)
    except TimeoutError:  # on a busy machine a nanny gives up on a process that was killed
        _kill_workers(cluster)
        cluster.shutdown_on_close = False  # closing again, at exit, would wait for that nanny
        for step in (partial(_nannies_finished, cluster), cluster.scheduler.close):
            with suppress(TimeoutError):
                cluster.sync(step, callback_timeout=CLOSE_S)


async def _nannies_finished(cluster: LocalCluster) -> None:
    await asyncio.gather(*(nanny.finished() for nanny in cluster.workers.values()))


def _kill_workers(cluster: LocalCluster) -> None:
    for nanny in cluster.workers.values():
        nanny.close_gracefully()  # it does not restart its worker
        with suppress(ProcessLookupError, TypeError):  # the worker has ended already
            os.kill(nanny.pid, signal.SIGKILL)
