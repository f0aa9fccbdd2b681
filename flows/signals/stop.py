"""SIGINT, SIGTERM and SIGHUP stop a command; during an import, the stop waits for its end.

An interrupted import leaves a package half loaded, and compiled modules turn the interruption into
errors of any kind. So the handler raises only if no import is on the stack; otherwise it runs again
after a few milliseconds. The signals are not masked instead, because threads and processes that
start during an import would inherit the mask, and workers could not be stopped.

The first imports of a command take seconds. Nothing has been written by then, and nothing runs that
does not end with this process: a stop ends it at once, without raising anything.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, NoReturn

RETRY_S = 0.02
TWICE_S = 1.0
"""`timeout` and batch systems send one stop twice, to the process and to its group. A second one
within this time is the same; a later one ends the command at once."""
STOPS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
EXIT_STOPPED: Final = 1
EXIT_DRAINED: Final = 75
"""EX_TEMPFAIL of sysexits.h: batch scripts requeue on it."""
DRAINED_TEXT: Final = (
    "overtile: drained before the first block: start the same command again to resume"
)
drain_requested = threading.Event()
"""Set if the next stop is a drain before the first block."""
_has_begun = True
"""Whether the command may have written something, or started something that must be ended."""
_stopped_at = float("-inf")
_is_drain_noted = False
_drain_thread: int | None = None
"""The thread that waits for SIGUSR1."""


class Stopped(KeyboardInterrupt):
    """A stop by a signal.

    A subclass, because Python ends by SIGINT, whatever the exit code, if a plain KeyboardInterrupt
    passes through C code.
    """


class DrainedBeforeRun(Stopped):
    """A stop by SIGUSR1 before a run had begun."""


def handle_stops() -> None:
    """Let SIGTERM stop the command, and SIGINT and SIGHUP unless they are ignored.

    SIGHUP comes when a terminal is gone, for example because ssh lost its connection; nohup ignores
    it. SIGUSR1, which ends a process by default, is noted for a drain that is set up later; a
    command without one ignores it.
    """
    if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        signal.signal(signal.SIGUSR1, _note_drain)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, stop)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, stop)
    signal.signal(signal.SIGTERM, stop)  # the last one: it shows that all are handled


def _note_drain(signum: int, frame: FrameType | None) -> None:
    global _is_drain_noted  # not an event, whose lock the interrupted code may hold
    if _drain_thread is None:
        _is_drain_noted = True
    else:  # rarely, this handler runs although that thread waits for the signal
        signal.pthread_kill(_drain_thread, signal.SIGUSR1)


def pass_drain_to(thread: int | None) -> None:
    """Send each SIGUSR1 whose handler runs to a thread that waits for it; None: note it again."""
    global _drain_thread
    _drain_thread = thread


def take_noted_drain() -> bool:
    """Return whether a SIGUSR1 came before its drain was set up; forget it."""
    global _is_drain_noted
    was_noted, _is_drain_noted = _is_drain_noted, False
    return was_noted


def stop(signum: int, frame: FrameType | None) -> None:
    """Raise Stopped or DrainedBeforeRun, after the import if one is running."""
    if _is_importing(frame):
        if not _has_begun:
            _end()
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, RETRY_S)
        return
    global _stopped_at
    now = time.monotonic()
    if now - _stopped_at < TWICE_S:
        return
    _stopped_at = now
    _silence_finalisers()
    raise DrainedBeforeRun if drain_requested.is_set() else Stopped


@contextmanager
def nothing_begun() -> Iterator[None]:
    """Let a stop during an import end the process at once while inside.

    For the first imports of a command, and for nothing else.
    """
    global _has_begun
    before, _has_begun = _has_begun, False
    try:
        yield
    finally:
        _has_begun = before


def _end() -> NoReturn:
    """End the process with the line of a stop, or of a drain.

    Not by ``print``: the interrupted code may hold the lock of standard error.
    """
    is_drained = drain_requested.is_set()
    line = DRAINED_TEXT if is_drained else "overtile: stopped"
    shown = "\r\x1b[K" if os.isatty(2) else ""  # instead of show_status's line
    with suppress(OSError):
        os.write(2, f"{shown}{line}\n".encode())
    os._exit(EXIT_DRAINED if is_drained else EXIT_STOPPED)


def _silence_finalisers() -> None:
    """Hide the errors of objects and coroutines that the stop leaves half made."""
    import logging

    logging.getLogger("asyncio").disabled = True
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    sys.unraisablehook = lambda unraisable: None


def drop_pending_stop() -> None:
    """Cancel a stop that waits for an import."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether an import is on the stack of the main thread, where handlers run."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib._bootstrap"):
            return True
        frame = frame.f_back
    return False
