"""Sets up a worker that was forked from the fork server: its signals, and torch's threads.

Loaded by the workers of this machine (``preload`` of Dask).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from .held_stop import hold_stops

if TYPE_CHECKING:
    from distributed import Worker


def dask_setup(worker: Worker) -> None:
    """Set up a worker; called by Dask in its main thread.

    Torch read the server's number of threads at import.
    """
    hold_stops()
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
