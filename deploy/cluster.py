"""From a specification to an open Dask client that leaves nothing running behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pipeline.errors import ClusterError

if TYPE_CHECKING:  # a specification needs no distributed; `overtile plan` starts without it
    from distributed import Client

Kind: TypeAlias = Literal["local", "address", "scheduler_file"]

ADDRESS_SCHEMES = ("tcp://", "tls://", "ucx://", "ws://", "wss://")


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
        return ClusterSpec(kind="address", where=text)
    if Path(text).is_file():
        return ClusterSpec(kind="scheduler_file", where=str(Path(text).resolve()))
    raise ClusterError(
        f"cluster {text!r} is neither local, nor an address like tcp://HOST:PORT, "
        "nor a scheduler file that is there"
    )


@contextmanager
def open_cluster(cluster: ClusterSpec | str = "local", **options: Any) -> Iterator[Client]:
    """Yield a client of the cluster; on leaving, end what was started here and nothing else.

    cluster: a specification, or what :func:`parse_cluster` takes. options: fields of ClusterSpec.
    Raises ClusterError for a scheduler that does not answer in time or has no workers.
    """
    spec = parse_cluster(cluster) if isinstance(cluster, str) else cluster
    spec = replace(spec, **options)
    with _local(spec) if spec.kind == "local" else _elsewhere(spec) as client:
        yield client


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local_workers(spec: ClusterSpec) -> tuple[int, int]:
    """Return how many worker processes, and how many of torch's threads in each."""
    workers = spec.workers or min(cores(), 8)
    return workers, max(1, cores() // workers)


@contextmanager
def _local(spec: ClusterSpec) -> Iterator[Client]:
    import dask
    from distributed import Client, LocalCluster

    workers, torch_threads = local_workers(spec)
    # A worker that a nanny starts has OMP_NUM_THREADS=1 unless it is set before the start.
    with (
        dask.config.set(
            {
                "distributed.nanny.pre-spawn-environ.OMP_NUM_THREADS": str(torch_threads),
                "distributed.worker.daemon": False,
            }
        ),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=spec.threads_per_worker,
            host="127.0.0.1",
            dashboard_address=spec.dashboard,
            silence_logs=40,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@contextmanager
def _elsewhere(spec: ClusterSpec) -> Iterator[Client]:
    from distributed import Client

    try:
        if spec.kind == "address":
            client = Client(spec.where, timeout=spec.timeout_s, set_as_default=False)
        else:
            client = Client(scheduler_file=spec.where, timeout=spec.timeout_s, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ClusterError(
            f"no Dask scheduler answered at {spec.where} within {spec.timeout_s:.0f} s: "
            "is it running, and reachable from here?"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=spec.timeout_s)
        except TimeoutError as error:
            raise ClusterError(
                f"the scheduler at {spec.where} has no workers: start some, then run again"
            ) from error
        yield client
