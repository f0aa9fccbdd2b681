"""What every run on a cluster has: it can be stopped and drained, and has a dashboard."""

from __future__ import annotations

import threading

from distributed import Client

from .scheduling import InFlightLimit
from .worker_count import WorkerCount


class LiveRun:
    """The cluster's side of a run."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._limit = InFlightLimit(client)
        self._workers = WorkerCount(client)
        self._stop = threading.Event()

    def stop(self) -> None:
        """Cancel the tasks in flight and submit no others."""
        self._stop.set()

    def drain(self) -> None:
        """Let the tasks in flight finish and submit no others."""
        self._limit.drain()

    @property
    def dashboard_link(self) -> str:
        """The address of the Dask dashboard."""
        return str(self._client.dashboard_link)
