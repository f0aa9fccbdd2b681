"""Opens any kind of cluster: from a name or a specification to a Dask client."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.base.errors import ClusterError
from pipeline.base.shell_words import shell_word
from pipeline.base.workers import set_worker_wait

from .clusters.existing import ADDRESS_SCHEMES, checked_address
from .clusters.profiles import (
    Setting,
    config_directory,
    find_profile,
    read_profile,
    spec_of_kind,
    with_settings,
)
from .clusters.silent_workers import watched
from .clusters.spec import JOB_KINDS, STARTED_KINDS, ClusterSpec, JobSpec
from .clusters.started import find_started, has_ended, scheduler_file_of, tls_of_address
from .clusters.steady_clock import use_steady_clock

if TYPE_CHECKING:  # `overtile plan` must not import distributed
    from distributed import Client

__all__ = ["ClusterSpec", "JobSpec", "open_cluster", "parse_cluster"]


def parse_cluster(text: str, *, workers: int | None = None) -> ClusterSpec:
    """Return the specification of a cluster.

    text: ``local``, ``cuda`` or a batch system; the name of a started cluster or of a profile; a
    TOML file; an address; a scheduler file. A name takes precedence over a kind of the same name,
    except ``local``. Raises ClusterError for anything else.
    """
    spec = _parsed(text)
    return spec if workers is None else replace(spec, workers=workers)


def _parsed(text: str) -> ClusterSpec:
    started = find_started(text)
    if started is None:
        spec = described_cluster(text)
        if spec.where.startswith("tls://") and spec.tls is None:
            return replace(spec, tls=tls_of_address(spec.where))
        return spec
    if why := has_ended(started):
        command = f"overtile cluster stop {shell_word(text)}"
        raise ClusterError(f"{why}: start it again, or delete its record with {command}")
    where = str(scheduler_file_of(text))
    return ClusterSpec(
        kind="scheduler_file", where=where, first_worker_s=started.first_worker_s, tls=started.tls
    )


def described_cluster(text: str) -> ClusterSpec:
    """Return the specification of a cluster; started clusters are not considered."""
    if text == "local":
        return ClusterSpec()
    if text.startswith(ADDRESS_SCHEMES):
        return ClusterSpec(kind="address", where=checked_address(text))
    if profile := find_profile(text):
        return read_profile(profile)
    if text in STARTED_KINDS:
        return spec_of_kind(text)
    if Path(text).is_file():
        path = Path(text).resolve()
        if path.suffix == ".toml":
            return read_profile(path)
        return ClusterSpec(kind="scheduler_file", where=str(path))
    raise ClusterError(
        f"cluster {text!r}: expected {', '.join(STARTED_KINDS)}, a profile in "
        f"{config_directory()}, an existing TOML or scheduler file, or an address like "
        "tcp://HOST:PORT"
    )


@contextmanager
def open_cluster(
    cluster: ClusterSpec | str = "local",
    *,
    notify: Callable[[str], None] | None = None,
    **settings: Setting,
) -> Iterator[Client]:
    """Yield a client of the cluster; on exit, stop what was started here and nothing else.

    cluster: a specification, or a text for :func:`parse_cluster`. notify: receives lines for the
    user: which jobs wait to start, which workers stand still. settings: fields of ClusterSpec and
    JobSpec, or their TOML names.
    Raises ClusterError if the cluster cannot be started, or does not answer in time; RunError if
    its jobs keep failing later.
    """
    spec = parse_cluster(cluster) if isinstance(cluster, str) else cluster
    spec = with_settings(spec, settings)
    notify = notify or (lambda line: None)
    use_steady_clock()
    with quiet(), _opened(spec, notify) as client, watched(client, notify):
        set_worker_wait(client, spec.first_worker_limit_s)
        yield client


def _opened(spec: ClusterSpec, notify: Callable[[str], None]) -> AbstractContextManager[Client]:
    if spec.kind in JOB_KINDS:
        from .batch_jobs.job_cluster import open_jobs

        return open_jobs(spec, report=notify)
    if spec.kind == "cuda":
        from .clusters.cuda import open_cuda

        return open_cuda(spec)
    if spec.kind == "local":
        from .clusters.local import open_local

        return open_local(spec)
    from .clusters.existing import open_existing

    return open_existing(spec)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep distributed's log off the terminal: a run reports its errors itself, in one line.

    A LocalCluster does this too, but stops before its last connections have closed.
    """
    from distributed.utils import silence_logging_cmgr

    with silence_logging_cmgr(logging.CRITICAL):
        yield
