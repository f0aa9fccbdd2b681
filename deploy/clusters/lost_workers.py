"""Ends a run on this machine once all of its workers are lost for good.

A nanny starts its worker again. If the system refuses the process, distributed (2026.7) only writes
that to its log: nothing tries again, and a run without workers would wait for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from pipeline.base.errors import RunError

from ..processes.limits import limit_text

if TYPE_CHECKING:
    from distributed import Client, LocalCluster, Nanny

CHECK_EVERY_S: Final = 2.0
LOST_S: Final = 20.0
"""Longer than a nanny takes from the end of a worker's process to the start of the next one."""
CLOSE_S: Final = 5.0


@contextmanager
def ended_if_all_are_lost(cluster: LocalCluster, client: Client) -> Iterator[None]:
    """Watch the nannies while inside. Raises RunError, with the remedy, if none is of use."""
    watch = _Watch(cluster, client)
    watch.start()
    try:
        yield
    except Exception as error:
        if watch.has_ended_it:
            raise RunError(
                f"no worker process is left, and none could be started: {limit_text()}; then start "
                "the same command again to resume"
            ) from error
        raise
    finally:
        watch.over.set()
        watch.join(CLOSE_S + 1)


class _Watch(threading.Thread):
    def __init__(self, cluster: LocalCluster, client: Client) -> None:
        super().__init__(name="lost-workers", daemon=True)
        self.over = threading.Event()
        self.has_ended_it = False
        self._cluster, self._client = cluster, client

    def run(self) -> None:
        """Check until the end, or until all have been lost for a while."""
        lost = 0  # checks in a row: a process that stood still has seen none meanwhile
        while not self.over.wait(CHECK_EVERY_S):
            lost += 1
            if not all(map(is_lost, list(self._cluster.workers.values()))):
                lost = 0
            elif lost > LOST_S / CHECK_EVERY_S:
                self.has_ended_it = True
                with suppress(Exception):  # whatever waits for a future then fails
                    self._client.close(timeout=CLOSE_S)
                return


def is_lost(nanny: Nanny) -> bool:
    """Return whether a nanny has no worker, and starts none."""
    from distributed.core import Status

    ended = (Status.closing, Status.closed, Status.failed, Status.stopped)
    process = nanny.process  # another thread may set it to None
    return nanny.status in ended or process is None or process.status in ended


def forget_lost(cluster: LocalCluster) -> None:
    """Let the nannies close that could not start their worker: they wait for that process."""
    from distributed.core import Status

    for nanny in cluster.workers.values():
        has_failed = nanny.process is not None and nanny.process.status == Status.failed
        if nanny.status in (Status.closing, Status.failed) or has_failed:
            nanny.process, nanny.status = None, Status.failed
