"""One worker process per GPU of this machine, bound by dask-cuda to the cores near it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.base.errors import ClusterError
from pipeline.base.scheduling import DEVICE_RESOURCE

from .gpu import checked_devices, missing_gpu
from .held_stop import hold_stops
from .local import open_on_this_machine, worker_settings
from .machine import cores
from .security import own_security
from .spec import ClusterSpec
from .steady_clock import use_steady_clock

if TYPE_CHECKING:
    from distributed import Client, LocalCluster


@contextmanager
def open_cuda(spec: ClusterSpec) -> Iterator[Client]:
    """Yield a client of one worker per GPU. Raises ClusterError if there is no GPU."""
    import dask

    devices = checked_devices(spec.devices)
    fresh = {"distributed.worker.multiprocessing-method": "spawn"}  # beside a local cluster, too
    with (
        dask.config.set(fresh),
        open_on_this_machine(replace(spec, devices=tuple(devices)), _start_workers) as client,
    ):
        if why := next(filter(None, client.run(missing_gpu).values()), None):
            raise ClusterError(why)
        client.run(hold_stops)
        client.run(use_steady_clock)
        yield client


def _start_workers(spec: ClusterSpec) -> LocalCluster:
    import dask
    from dask_cuda import LocalCUDACluster

    with dask.config.set(worker_settings(max(1, cores() // len(spec.devices)))):
        cluster: LocalCluster = LocalCUDACluster(
            CUDA_VISIBLE_DEVICES=list(spec.devices),
            threads_per_worker=spec.threads_per_worker,
            resources={DEVICE_RESOURCE: spec.threads_per_worker},
            device_memory_limit=None,  # results of our tasks are on the host
            host="127.0.0.1",
            dashboard_address=spec.dashboard,
            security=own_security(spec),
            silence_logs=logging.CRITICAL,
        )
    return cluster
