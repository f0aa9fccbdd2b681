"""Ends a worker that should have a GPU and finds none.

Loaded by ``dask worker --preload deploy.clusters.needs_gpu``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .gpu import missing_gpu

if TYPE_CHECKING:
    from distributed import Worker


def dask_setup(worker: Worker) -> None:
    """Check for the GPU; called by Dask in every worker. Dask ignores other exceptions."""
    if why := missing_gpu():
        raise SystemExit(why)
