"""Ends the scheduler of a job whose script was killed; the run and its workers then end too.

A scheduler that does not end by the first signal gets a stronger one. Where Slurm tracks no
processes (cgroups), those of a killed script stay: the run waits for workers, which have ended with
the job, and nothing ends it. Loaded by ``dask scheduler --preload``; the variable OVERTILE_SCRIPT
is the number of the script's process.

    script         ---- x
    scheduler      --------- notices it, and ends
    run, workers   ------------- lose their scheduler, and end
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Final

import psutil

from ..processes.identity import ProcessIdentity, identify

if TYPE_CHECKING:
    from distributed import Scheduler

VARIABLE: Final = "OVERTILE_SCRIPT"
CHECK_EVERY_S: Final = 5.0
MISSES: Final = 3
"""In a row: one may be a process that has no file descriptor left to read /proc with."""
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
"""In this order. Dask closes its connections after SIGINT; its SIGTERM may be ignored: see
outlive_term.py."""
BETWEEN_S: Final = 15.0
"""From one signal to the next: Dask needs seconds to close the connections of many workers."""


def dask_setup(scheduler: Scheduler) -> None:
    """Start to watch the script; called by Dask in the scheduler's process."""
    if (script := script_above()) is not None:
        threading.Thread(
            target=end_after, args=(script,), name="end-with-script", daemon=True
        ).start()


def script_above() -> ProcessIdentity | None:
    """Return the script that started this process.

    None if it is not above this process: a container may count its processes from 1.
    """
    number = os.environ.get(VARIABLE, "")
    above = {str(parent.pid): parent.pid for parent in psutil.Process().parents()}
    return identify(above[number]) if number in above else None


def end_after(
    script: ProcessIdentity, *, check_every_s: float = CHECK_EVERY_S, between_s: float = BETWEEN_S
) -> None:
    """Wait until the script has ended, then end this process: as Ctrl-C does, or by force."""
    missed = 0
    while missed < MISSES:
        missed = 0 if script.is_alive_here() else missed + 1
        time.sleep(check_every_s)
    for number in SIGNALS:
        os.kill(os.getpid(), number)
        time.sleep(between_s)
