"""What a worker that was forked from the fork server sets, because its libraries are loaded.

Loaded by the workers of this machine (``preload`` of Dask).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from distributed import Worker

_PR_SET_PDEATHSIG: Final = 1


def dask_setup(worker: Worker) -> None:
    """Use the worker's number of threads, and end with the fork server; called by Dask."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if sys.platform == "linux":
        # Without the server, the driver takes the worker for dead, and starts another.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
