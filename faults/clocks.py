"""A wall clock that is set while a command runs, as by a time server or an administrator."""

from __future__ import annotations

import sys
import time


def clock_jumps(*, after_s: float, by_s: float) -> None:
    """Set the clock of a command and of all its workers forward by ``by_s``, or back.

    It happens ``after_s`` seconds from now. Clocks that only measure durations go on. Workers are
    forked from the command, so that they have the clock of one machine.
    """
    kept, at = time.time, time.monotonic() + after_s

    def jumped() -> float:
        return kept() + (by_s if time.monotonic() >= at else 0.0)

    for module in list(sys.modules.values()):
        for name, value in list(vars(module).items()):
            if value is kept:
                setattr(module, name, jumped)
