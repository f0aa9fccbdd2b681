"""Lets the processes of a training's job outlive SIGTERM until the ranks have saved a checkpoint.

Slurm sends SIGTERM to every process of a job that it ends, and SIGKILL half a minute later
(``KillWait``). In between, the driver has the ranks save their step, for which it needs the
scheduler, the nannies and the workers. Then the job's script ends these by SIGINT.

Loaded by ``dask scheduler`` and ``dask worker``: ``--preload``, ``--preload-nanny``.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from ..clusters.held_stop import hold_stops

if TYPE_CHECKING:
    from distributed import Nanny, Scheduler, Worker


def dask_setup(server: Scheduler | Nanny | Worker) -> None:
    """Replace the handler of SIGTERM that Dask has set; called in the process's main thread."""
    from distributed import Worker

    if isinstance(server, Worker):
        hold_stops()
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
