"""A Dask client for callers that have no cluster."""

from __future__ import annotations

import dask
from distributed import Client

from .worker_profile import WORKER_PROFILE


def local_client() -> Client:
    """Return a client of a cluster of three threads in this process."""
    with dask.config.set(WORKER_PROFILE):
        return Client(
            processes=False, n_workers=1, threads_per_worker=3, dashboard_address=None,
            set_as_default=False,
        )  # fmt: skip
