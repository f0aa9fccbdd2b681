"""SIGUSR1 ends a run after the blocks in flight. Batch systems send it before the walltime.

The signal is blocked in every thread, and one thread waits for it. So it interrupts nothing, and
worker processes, which inherit the mask, are not killed when Slurm signals all processes of a step.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from ..text.terminal import say
from .stop import (
    STOPS,
    TWICE_S,
    drain_requested,
    drop_pending_stop,
    pass_drain_to,
    take_noted_drain,
)


class Drainable(Protocol):
    """A run that can end early."""

    def drain(self) -> None:
        """Let the blocks in flight finish and submit no others."""


class Drain:
    """A drain on SIGUSR1: of the run or, before a run has begun, of the command.

    A second signal, later than a second after the first, ends the command at once.
    """

    def __init__(self, what: str) -> None:
        """what: still happens in a drain, for the line that announces it."""
        self._what = what
        self._lock = threading.Lock()
        self._run: Drainable | None = None
        self._began_at: float | None = None

    def begin(self, run: Drainable) -> None:
        """Drain this run on request from now on; at once if the request came earlier."""
        with self._lock:
            self._run = run
            if drain_requested.is_set():
                drain_requested.clear()
                drop_pending_stop()
                self._began_at = time.monotonic()
                run.drain()

    def request(self) -> None:
        """Let the run drain, or end the command as SIGTERM does."""
        with self._lock:
            if self._began_at is not None:
                if time.monotonic() - self._began_at >= TWICE_S:
                    _stop_command()
            elif self._run is not None:
                self._began_at = time.monotonic()
                say(f"draining: {self._what}, then the run ends")
                self._run.drain()
            elif not drain_requested.is_set():
                drain_requested.set()
                _stop_command()


def _stop_command() -> None:
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGTERM)


@contextmanager
def drain_on_signal(what: str = "blocks in flight finish") -> Iterator[Drain]:
    """Handle SIGUSR1 while inside. Enter it before any thread or process starts.

    If it arrives before a run has begun, also before this is entered, DrainedBeforeRun is raised in
    the main thread. what: still happens in a drain, for the user.
    """
    drain, over, woken = Drain(what), threading.Event(), threading.Event()
    drain_requested.clear()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})

    def listen() -> None:
        # At the end of each wait the kernel offers this thread what waits for any thread. Handlers
        # run in the main thread, which nothing would wake if this one took a stop.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, *STOPS})
        while True:
            # Not sigtimedwait: after a SIGSTOP longer than its time it returns a signal that never
            # came (CPython 3.11 to 3.13).
            signal.sigwait({signal.SIGUSR1})
            if over.is_set():
                woken.wait()  # a signal to a thread that has ended is undefined
                return
            drain.request()

    thread = threading.Thread(target=listen, name="drain", daemon=True)
    thread.start()
    assert thread.ident is not None
    pass_drain_to(thread.ident)
    try:
        if take_noted_drain():
            drain.request()
        yield drain
    finally:
        pass_drain_to(None)
        over.set()
        signal.pthread_kill(thread.ident, signal.SIGUSR1)
        woken.set()
        thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
