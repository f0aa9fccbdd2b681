"""The background process of a named cluster.

``python -m deploy.named_clusters.service NAME CLUSTER``
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from pipeline.base.errors import ClusterError

from ..batch_jobs.logs import log_folder
from ..cluster import described_cluster, open_cluster, quiet
from ..clusters.security import with_keys
from ..clusters.spec import STARTED_KINDS, ClusterSpec
from ..clusters.started import StartedCluster, directory_of, scheduler_file_of, write_started
from ..clusters.steady_clock import use_steady_clock
from ..processes.background import now_text
from ..processes.identity import identify
from ..tls.files import names_files

if TYPE_CHECKING:
    from distributed import Client

POLL_S = 1.0


def main(arguments: Sequence[str]) -> int:
    """Run one cluster until SIGTERM, or until its scheduler or its jobs are lost."""
    name, text = arguments
    signal.signal(signal.SIGTERM, _exit)
    try:
        spec = described_cluster(text)
        if spec.kind not in STARTED_KINDS:
            raise ClusterError(
                f"cluster {text} is already running: pass its address or file to --cluster instead"
            )
        _serve(name, spec)
    except ClusterError as error:
        print(f"overtile: {error}", file=sys.stderr)
        return 2
    return 0


def _exit(signum: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _serve(name: str, spec: ClusterSpec) -> None:
    keys = log_folder(spec.job) if spec.job else directory_of(name)
    with with_keys(spec, keys) as spec, _opened(spec) as (client, job_ids):
        client.write_scheduler_file(str(scheduler_file_of(name)))
        identity = identify(os.getpid())
        assert identity is not None
        record = StartedCluster(
            **asdict(identity), name=name, kind=spec.kind,
            since=now_text(), address=client.scheduler_info(n_workers=0)["address"],
            dashboard=client.dashboard_link, first_worker_s=spec.first_worker_limit_s,
            job_ids=job_ids(), tls=spec.tls if names_files(spec.tls) else None,
        )  # fmt: skip
        write_started(record)
        while client.status == "running":
            time.sleep(POLL_S)
            if job_ids() != record.job_ids:
                record = replace(record, job_ids=job_ids())
                write_started(record)


@contextmanager
def _opened(spec: ClusterSpec) -> Iterator[tuple[Client, Callable[[], tuple[str, ...]]]]:
    """Yield a client, and a function that returns the jobs; do not wait for workers in jobs."""
    if spec.job is None:
        with open_cluster(spec) as client:
            yield client, tuple
        return
    from ..batch_jobs.job_cluster import open_pool

    use_steady_clock()
    with quiet(), open_pool(spec, report=_log) as (client, pool):
        yield client, lambda: tuple(record.job_id for record in pool.records)
        if pool.failure is not None:
            raise ClusterError(pool.failure)


def _log(line: str) -> None:
    print(f"{now_text()} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
