"""A Dask client for callers that have no cluster."""

from __future__ import annotations

from distributed import Client


def local_client() -> Client:
    """Return a client of a cluster of three threads in this process."""
    return Client(
        processes=False, n_workers=1, threads_per_worker=3, dashboard_address=None,
        set_as_default=False,
    )  # fmt: skip
