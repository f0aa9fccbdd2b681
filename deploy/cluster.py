"""From a specification to an open Dask client that leaves nothing running behind."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pipeline.errors import ClusterError

from .turns import DEVICE

if TYPE_CHECKING:  # a specification needs no distributed; `overtile plan` starts without it
    from distributed import Client, LocalCluster

Kind: TypeAlias = Literal["local", "address", "scheduler_file"]

ADDRESS_SCHEMES = ("tcp://", "tls://", "ucx://", "ws://", "wss://")
_ADDRESS = re.compile(rf"({'|'.join(ADDRESS_SCHEMES)})[^/\s]+:\d+(/\S*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """Where a run's workers are.

    ``local`` starts worker processes here and ends them; ``address`` and ``scheduler_file`` name a
    cluster that somebody else started, which goes on afterwards.
    """

    kind: Kind = "local"
    where: str = ""
    """The address, or the scheduler file's path."""
    workers: int | None = None
    """Local processes; by default one per core, eight at most."""
    threads_per_worker: int = 3
    """Blocks that a worker has in hand: one reads, one computes, one writes."""
    dashboard: str = "127.0.0.1:8787"
    """Where the local dashboard listens; a taken port moves to a free one."""
    timeout_s: float = 10.0
    """How long a scheduler may take to answer, and the first worker to come."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ClusterError(f"{self.workers} workers: give at least one")
        if self.threads_per_worker < 1:
            raise ClusterError(f"{self.threads_per_worker} threads per worker: give at least one")
        if self.kind != "local" and not self.where:
            raise ClusterError(f"cluster {self.kind}: say where it is")


def parse_cluster(text: str, *, workers: int | None = None) -> ClusterSpec:
    """Return the specification for ``local``, an address, or a scheduler file's path.

    Raises ClusterError for anything else.
    """
    if text == "local":
        return ClusterSpec(workers=workers)
    if workers is not None:
        raise ClusterError(f"--workers goes with --cluster local; {text} has the workers it has")
    if text.startswith(ADDRESS_SCHEMES):
        return ClusterSpec(kind="address", where=checked_address(text))
    if Path(text).is_file():
        return ClusterSpec(kind="scheduler_file", where=str(Path(text).resolve()))
    raise ClusterError(
        f"cluster {text!r} is neither local, nor an address like tcp://HOST:PORT, "
        "nor a scheduler file that is there"
    )


def checked_address(text: str) -> str:
    """Return an address that names host and port. Raises ClusterError for another one."""
    if not _ADDRESS.fullmatch(text):
        raise ClusterError(f"cluster {text!r} names no host and port: say it like tcp://HOST:8786")
    return text


@contextmanager
def open_cluster(cluster: ClusterSpec | str = "local", **options: Any) -> Iterator[Client]:
    """Yield a client of the cluster; on leaving, end what was started here and nothing else.

    cluster: a specification, or what :func:`parse_cluster` takes. options: fields of ClusterSpec.
    Raises ClusterError for a scheduler that does not answer in time or has no workers.
    """
    spec = parse_cluster(cluster) if isinstance(cluster, str) else cluster
    spec = replace(spec, **options)
    with (
        _quiet(),
        _local(spec) if spec.kind == "local" else _elsewhere(spec) as client,
    ):
        yield client


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep distributed's log off the terminal: what goes wrong is told in one line, by the run.

    A LocalCluster does this itself, but lets go while its last connections still close.
    """
    from distributed.utils import silence_logging_cmgr

    with silence_logging_cmgr(logging.CRITICAL):
        yield


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local_workers(spec: ClusterSpec) -> tuple[int, int]:
    """Return how many worker processes, and how many of torch's threads in each."""
    workers = spec.workers or min(cores(), 8)
    return workers, max(1, cores() // workers)


@contextmanager
def _local(spec: ClusterSpec) -> Iterator[Client]:
    from distributed import Client

    with ThreadPoolExecutor(1, thread_name_prefix="start-cluster") as pool:
        starting = pool.submit(_start_local, spec)
        try:
            cluster = starting.result()
        except BaseException:  # Ctrl-C: a cluster that is half started cannot be ended
            with suppress(Exception):
                _end(starting.result(), at_once=True)
            raise
    try:
        with Client(cluster, set_as_default=False) as client:
            yield client
    except BaseException:
        _end(cluster, at_once=True)
        raise
    _end(cluster, at_once=False)


def _start_local(spec: ClusterSpec) -> LocalCluster:
    """Start the worker processes; runs in a thread of its own.

    A terminal sends Ctrl-C to every process in it. The workers are to leave it to us, so it is
    blocked where they are started from: threads and processes inherit what is blocked.
    """
    import dask
    from distributed import LocalCluster

    _start_tracker()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    workers, torch_threads = local_workers(spec)
    settings = {
        # A worker that a nanny starts has OMP_NUM_THREADS=1 unless it is set before the start.
        "distributed.nanny.pre-spawn-environ.OMP_NUM_THREADS": str(torch_threads),
        "distributed.worker.daemon": False,
    }
    with dask.config.set(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Port \d+ is already in use")
        try:
            return LocalCluster(
                n_workers=workers,
                threads_per_worker=spec.threads_per_worker,
                resources={DEVICE: spec.threads_per_worker},
                host="127.0.0.1",
                dashboard_address=spec.dashboard,
                silence_logs=logging.CRITICAL,  # in the workers; here see _quiet
            )
        except RuntimeError as error:
            raise ClusterError(
                f"{workers} worker processes could not be started here ({error}): is there memory "
                "for them, and does the program that asks for them guard its own start with "
                "`if __name__ == '__main__'`?"
            ) from error


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
    """End the worker processes; ``at_once``: without waiting for what they are computing."""
    if at_once:
        for nanny in cluster.workers.values():
            nanny.close_gracefully()  # it does not start its worker again
            with suppress(ProcessLookupError, TypeError):  # it has ended by itself
                os.kill(nanny.pid, signal.SIGKILL)
    cluster.close()


@contextmanager
def _elsewhere(spec: ClusterSpec) -> Iterator[Client]:
    from distributed import Client

    address = spec.where if spec.kind == "address" else _address_in(spec.where)
    _check_answers(address, timeout_s=spec.timeout_s)
    with Client(address, timeout=spec.timeout_s, set_as_default=False) as client:
        try:
            client.wait_for_workers(1, timeout=spec.timeout_s)
        except TimeoutError as error:
            raise ClusterError(
                f"the scheduler at {spec.where} has no workers: start some, then run again"
            ) from error
        yield client


def _address_in(scheduler_file: str) -> str:
    """Return the address that a scheduler wrote into its file."""
    try:
        return checked_address(json.loads(Path(scheduler_file).read_text())["address"])
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise ClusterError(
            f"{scheduler_file} is no scheduler file: it states no address like tcp://HOST:PORT; "
            "start the scheduler with --scheduler-file"
        ) from error


def _check_answers(address: str, *, timeout_s: float) -> None:
    """Raise ClusterError unless a Dask scheduler answers.

    Asked before a Client is made: one that could not connect waits 20 s more when it is deleted
    (distributed 2026.7). In a thread of its own, for the caller may have an event loop running.
    """
    from distributed import Security
    from distributed.comm import connect

    async def ask() -> None:
        options = Security().get_connection_args("client")
        comm = await connect(address, timeout=timeout_s, **options)
        await comm.close()

    with ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(lambda: asyncio.run(ask())).result()
        except Exception as error:  # whatever another kind of server makes of the question
            said = "silence" if isinstance(error, OSError) else " ".join(str(error).split())[:200]
            raise ClusterError(
                f"no Dask scheduler answered at {address} within {timeout_s:.0f} s "
                f"({said or type(error).__name__}): is it running, and reachable from here?"
            ) from error
