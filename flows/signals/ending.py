"""The end of a command's process: a stop that comes then changes nothing.

Python does not end with the last line of a command. It waits for threads, calls what was registered
for its exit, restores the default of each signal that has a handler, and unloads modules. A stop in
this time would print a traceback, or end the process as killed although everything is done.

    command -- threads, exit functions -- modules --
    stops    | ends at once, same code  | is ignored
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import suppress
from types import FrameType

from .stop import STOPS, stop


def ignore_stops_at_exit() -> None:
    """Ignore stops while Python unloads its modules; ignored signals keep no default to restore.

    Called before other exit functions are registered, so that it takes effect after them.
    """
    atexit.register(_ignore_stops)


def end_at_once_on_stop(code: int) -> None:
    """From now on, let a stop end the process at once, with the exit code of its command."""

    def end(signum: int, frame: FrameType | None) -> None:
        os._exit(code)

    signal.setitimer(signal.ITIMER_REAL, 0)  # of a stop that waits for an import
    for number in (*STOPS, signal.SIGALRM):
        if signal.getsignal(number) is stop:
            signal.signal(number, end)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # it is closed
            stream.flush()


def _ignore_stops() -> None:
    for number in (*STOPS, signal.SIGALRM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
