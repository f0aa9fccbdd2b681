"""Sets the number of torch's threads in a worker that was forked with torch already loaded.

Loaded by the workers of this machine (``preload`` of Dask).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Worker


def dask_setup(worker: Worker) -> None:
    """Use the worker's number of threads; called by Dask. Torch read the server's at import."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
