"""The background process of a named cluster.

``python -m deploy.named_clusters.service NAME CLUSTER``
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from pipeline.base.errors import ClusterError

from ..cluster import described_cluster, open_cluster, quiet
from ..clusters.spec import STARTED_KINDS, ClusterSpec
from ..clusters.started import Started, locked, scheduler_file_of, write_started

if TYPE_CHECKING:
    from distributed import Client

LOOK_S = 1.0


def main(arguments: Sequence[str]) -> int:
    """Serve one cluster until SIGTERM, or until its scheduler or its jobs are lost."""
    name, text = arguments
    signal.signal(signal.SIGTERM, _leave)
    try:
        spec = described_cluster(text)
        if spec.kind not in STARTED_KINDS:
            raise ClusterError(f"cluster {text} was started by somebody else: nothing to start")
        with locked(name):
            _serve(name, spec)
    except ClusterError as error:
        print(f"overtile: {error}", file=sys.stderr)
        return 2
    return 0


def _leave(signum: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _serve(name: str, spec: ClusterSpec) -> None:
    with _opened(spec) as (client, job_ids):
        client.write_scheduler_file(str(scheduler_file_of(name)))
        written = Started(
            name=name, kind=spec.kind, host=socket.gethostname(), pid=os.getpid(),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            address=client.scheduler_info(n_workers=0)["address"],
            dashboard=client.dashboard_link, first_worker_s=spec.patience_s, job_ids=job_ids(),
        )  # fmt: skip
        write_started(written)
        while client.status == "running":
            time.sleep(LOOK_S)
            if job_ids() != written.job_ids:
                written = replace(written, job_ids=job_ids())
                write_started(written)


@contextmanager
def _opened(spec: ClusterSpec) -> Iterator[tuple[Client, Callable[[], tuple[str, ...]]]]:
    """Yield a client, and what jobs there are; workers in jobs are not waited for."""
    if spec.job is None:
        with open_cluster(spec) as client:
            yield client, tuple
        return
    from ..batch_jobs.job_cluster import kept_jobs

    with quiet(), kept_jobs(spec, tell=_log) as (client, keeper):
        yield client, lambda: tuple(record.job_id for record in keeper.records)
        if keeper.failure is not None:
            raise ClusterError(keeper.failure)


def _log(line: str) -> None:
    print(f"{datetime.now(UTC).isoformat(timespec='seconds')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
