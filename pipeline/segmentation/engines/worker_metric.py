"""A number on the dashboard's page *Workers* that moves while a block is computed.

Dask shows tasks, and a task is a block, which may take minutes. Metrics of a worker travel with its
heartbeats, about one per second.
"""

from __future__ import annotations

import threading
from typing import Any, Final

NAME: Final = "mvoxel_computed"
"""Millions of voxels that went through the network in the life of a worker, halos excluded."""
_lock = threading.Lock()


class VoxelsComputed:
    """Counts voxels of one worker; called by Dask for the value."""

    def __init__(self) -> None:
        self._voxels = 0

    def add(self, voxels: int) -> None:
        """Count voxels; any thread of the worker may."""
        with _lock:
            self._voxels += voxels

    def __call__(self, worker: object) -> float:
        """Return the millions of voxels so far."""
        return self._voxels / 1e6


def voxels_computed(worker: Any) -> VoxelsComputed:
    """Return the counter of a Dask worker, which is installed on first use."""
    with _lock:
        if NAME not in worker.metrics:  # replaced, not changed: the heartbeat iterates over it
            worker.metrics = {**worker.metrics, NAME: VoxelsComputed()}
        counter: VoxelsComputed = worker.metrics[NAME]
        return counter
