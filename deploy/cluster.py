"""The door to every kind of cluster: from words or a specification to an open Dask client."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import ClusterError

from .clusters.existing import ADDRESS_SCHEMES, checked_address
from .clusters.profiles import (
    config_directory,
    find_profile,
    read_profile,
    spec_of_kind,
    with_settings,
)
from .clusters.spec import JOB_KINDS, STARTED_KINDS, ClusterSpec, JobSpec
from .clusters.started import find_started, is_running, last_words, scheduler_file_of

if TYPE_CHECKING:  # a specification needs no distributed; `overtile plan` starts without it
    from distributed import Client

__all__ = ["ClusterSpec", "JobSpec", "open_cluster", "parse_cluster"]


def parse_cluster(text: str, *, workers: int | None = None) -> ClusterSpec:
    """Return the specification that a text means.

    text: ``local``, ``cuda`` or a batch system; the name of a cluster that was started, or of a
    profile; a TOML file; an address; a scheduler file. A name goes before a kind of the same name,
    except ``local``. Raises ClusterError for anything else.
    """
    spec = _parsed(text)
    return spec if workers is None else replace(spec, workers=workers)


def _parsed(text: str) -> ClusterSpec:
    started = find_started(text)
    if started is None:
        return described_cluster(text)
    if started.is_here and not is_running(text):
        raise ClusterError(
            f"cluster {text} was started and has ended by itself "
            f"({last_words(text) or 'silently'}): start it again, or forget it with overtile "
            f"cluster stop {text}"
        )
    where = str(scheduler_file_of(text))
    return ClusterSpec(kind="scheduler_file", where=where, first_worker_s=started.first_worker_s)


def described_cluster(text: str) -> ClusterSpec:
    """Return the specification that a text means, whatever was started under this name."""
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
        f"cluster {text!r} is neither {', '.join(STARTED_KINDS[:-1])} or {STARTED_KINDS[-1]}, nor "
        f"a profile in {config_directory()}, nor a TOML or scheduler file that is there, nor an "
        "address like tcp://HOST:PORT"
    )


@contextmanager
def open_cluster(
    cluster: ClusterSpec | str = "local",
    *,
    tell: Callable[[str], None] | None = None,
    **options: Any,
) -> Iterator[Client]:
    """Yield a client of the cluster; on leaving, end what was started here and nothing else.

    cluster: a specification, or what :func:`parse_cluster` takes. tell: is given lines for a person
    who waits for jobs to start. options: fields of ClusterSpec and JobSpec, or their names in TOML.
    Raises ClusterError for a cluster that cannot be started, or does not answer in time; RunError
    where its jobs keep failing later.
    """
    spec = parse_cluster(cluster) if isinstance(cluster, str) else cluster
    spec = with_settings(spec, options)
    with quiet(), _opened(spec, tell or (lambda line: None)) as client:
        yield client


def _opened(spec: ClusterSpec, tell: Callable[[str], None]) -> AbstractContextManager[Client]:
    if spec.kind in JOB_KINDS:
        from .batch_jobs.job_cluster import open_jobs

        return open_jobs(spec, tell=tell)
    if spec.kind == "cuda":
        from .clusters.cuda import open_cuda

        return open_cuda(spec)
    if spec.kind == "local":
        from .clusters.local import open_local

        return open_local(spec)
    from .clusters.existing import open_elsewhere

    return open_elsewhere(spec)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep distributed's log off the terminal: what goes wrong is told in one line, by the run.

    A LocalCluster does this itself, but lets go while its last connections still close.
    """
    from distributed.utils import silence_logging_cmgr

    with silence_logging_cmgr(logging.CRITICAL):
        yield
