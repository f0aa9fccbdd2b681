"""A worker holds SIGTERM back while it runs a rank of a training: the driver decides.

Batch systems and `timeout` send SIGTERM to all processes of a job. The driver then has the ranks
save a checkpoint, which they could not do if their workers ended first.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Final

from ..ranks.rank import is_occupied

HELD_S: Final = 60.0
"""Longer than a driver waits for its ranks. It ends the workers; this ends one that it forgot."""


def hold_stops() -> None:
    """Handle the signals of a worker; called in the main thread of its process."""
    signal.signal(signal.SIGTERM, _stop)
    for number in (signal.SIGHUP, signal.SIGUSR1):  # for the driver
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _stop(number: int, frame: FrameType | None) -> None:
    if is_occupied():
        timer = threading.Timer(HELD_S, os._exit, [128 + signal.SIGTERM])
        timer.daemon = True
        timer.start()
        return
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
