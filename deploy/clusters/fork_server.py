"""A process that has imported what workers need; the workers of this machine are forked from it.

Torch, Zarr and Dask take two seconds of CPU to import, in every worker. Here they are imported
once, while the driver imports its own libraries, and the workers share their memory. Python's
``multiprocessing`` calls this a fork server. It has a single thread, it computes nothing, and it
ends with the driver.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing import forkserver, resource_tracker
from typing import Final

from .worker_environment import KEPT_MEMORY, restored

METHOD: Final = "forkserver" if sys.platform == "linux" else "spawn"
"""How local workers are started; elsewhere, libraries of the system do not survive a fork."""
IMPORTED: Final = ("deploy.clusters.preloaded",)
HASH_SEED: Final = {"PYTHONHASHSEED": "6640"}
"""Dask's: all workers must give the same text the same hash."""
_ONE_THREAD: Final = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
)
"""No library may start threads: they do not survive a fork."""
_FOR_DRIVER: Final = {signal.SIGUSR1, signal.SIGHUP}
_BLOCKED: Final = {signal.SIGINT, signal.SIGTERM, *_FOR_DRIVER}
"""Signals that terminals and batch systems send to all processes, and that the driver handles.

Workers unblock SIGTERM (held_stop.py); the server ends with the driver.
"""
_STARTING: Final = threading.Lock()


def start_fork_server(*, with_torch: bool = False) -> None:
    """Start the process, unless it runs. Returns at once; it imports in the meantime.

    with_torch: import torch too, for workers that run a network.
    """
    if METHOD != "forkserver":
        return
    variables = {**HASH_SEED, **KEPT_MEMORY, **_ONE_THREAD}
    with _STARTING, restored(variables):
        os.environ.update(variables)
        start_tracker()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
        try:
            modules = [*IMPORTED, "torch"] if with_torch else [*IMPORTED]
            multiprocessing.set_forkserver_preload(modules)
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_tracker() -> None:
    """Start multiprocessing's tracker, which removes the semaphores of killed processes.

    Its warnings are not for users. It must start before SIGINT is blocked: CPython's
    resource_tracker.ensure_running unblocks SIGINT in the thread that calls it first.
    """
    before = os.environ.get("PYTHONWARNINGS")
    quiet = "ignore:resource_tracker:UserWarning"
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_DRIVER)
    try:
        with restored(["PYTHONWARNINGS"]):
            os.environ["PYTHONWARNINGS"] = f"{before},{quiet}" if before else quiet
            resource_tracker.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
