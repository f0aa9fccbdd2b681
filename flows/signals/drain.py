"""SIGUSR1: the run ends early, its blocks in flight done. Batch systems send it before a walltime.

The signal is blocked in every thread, and taken by one that waits for it. So it interrupts nothing,
and worker processes, which inherit the blocking, are not killed by a signal that Slurm sends to all
processes of a step.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.base.errors import RunDrainedError

from ..text.terminal import say
from .interrupted import interrupted

if TYPE_CHECKING:
    from pipeline.segmentation.run import SegmentRun

EXIT_DRAINED = 75
"""EX_TEMPFAIL of sysexits.h: batch scripts requeue on it."""


BEFORE_RUN = "drained before the first block: start the same command again to go on"
_asked_before_run = threading.Event()


def asked_before_run() -> bool:
    """Return whether a drain ended the command before a run had begun."""
    return _asked_before_run.is_set()


class Drain:
    """What SIGUSR1 asks for: that a run drains or, where none has begun, that the command ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run: SegmentRun | None = None
        self.before_run = False
        """Whether it was asked for before a run had begun."""

    def begin(self, run: SegmentRun) -> None:
        """Drain this run from now on, when asked to."""
        with self._lock:
            self._run = run
            if self.before_run:
                run.drain()

    def ask(self) -> None:
        """Let the run drain, or end the command as SIGTERM does."""
        with self._lock:
            if self._run is not None:
                say("draining: blocks in flight finish, then the run ends")
                self._run.drain()
            elif not self.before_run:
                self.before_run = True
                _asked_before_run.set()
                main = threading.main_thread().ident
                assert main is not None
                signal.pthread_kill(main, signal.SIGTERM)


@contextmanager
def drain_on_signal() -> Iterator[Drain]:
    """Take SIGUSR1 while inside.

    Raises RunDrainedError where it came before a run had begun. Enter it before anything starts
    threads or processes.
    """
    drain, over = Drain(), threading.Event()
    _asked_before_run.clear()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})

    def listen() -> None:
        while True:
            signal.sigwait({signal.SIGUSR1})
            if over.is_set():
                return
            drain.ask()

    thread = threading.Thread(target=listen, name="drain", daemon=True)
    thread.start()
    try:
        yield drain
    except (KeyboardInterrupt, Exception) as error:
        if drain.before_run and interrupted(error):
            raise RunDrainedError(BEFORE_RUN) from None
        raise
    finally:
        over.set()
        assert thread.ident is not None
        signal.pthread_kill(thread.ident, signal.SIGUSR1)
        thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
