"""SIGINT and SIGTERM end a command; a stop that meets an import is held back until its end.

An interrupted import leaves half a package behind, and a compiled module that is interrupted raises
an error of its own. So the handler raises only where no import is on the stack, and tries again
soon where one is. The signals are not masked for this: threads and processes that start during an
import (OpenMP's, torch's) would inherit the mask, and a worker could then not be ended.
"""

from __future__ import annotations

import signal
import threading
import warnings
from types import FrameType

RETRY_S = 0.02
drain_requested = threading.Event()
"""Whether the stop to come is a drain before the first block."""


class Stopped(KeyboardInterrupt):
    """A stop by a signal.

    A subclass, because a plain KeyboardInterrupt that passes through C code makes Python itself end
    by SIGINT, whatever the exit code is.
    """


class DrainedBeforeRun(Stopped):
    """A stop by SIGUSR1, before a run had begun that could drain."""


def handle_stops() -> None:
    """Let SIGTERM and, where it is not ignored, SIGINT end the command."""
    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, stop)


def stop(signum: int, frame: FrameType | None) -> None:
    """Raise Stopped or DrainedBeforeRun; where an import is running, after it."""
    if _is_importing(frame):
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, RETRY_S)
        return
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    raise DrainedBeforeRun if drain_requested.is_set() else Stopped


def drop_pending_stop() -> None:
    """Forget a stop that is held back."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether an import is on the stack of the main thread, to which signals go."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib._bootstrap"):
            return True
        frame = frame.f_back
    return False
