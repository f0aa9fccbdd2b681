"""Event loops whose timers do not follow the wall clock when it is set.

tornado's loop and Dask's batched messages (tornado 6.5, distributed 2026.7) take the wall clock for
deadlines: where it is set back by an hour while a message waits, the message waits for an hour, and
the run with it. Both get a clock here that starts at the wall clock's time and then only goes on.

Schedulers and workers load it as a preload of Dask. Only timers of this process read it, so the
clocks of two processes need not agree.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Scheduler, Worker

_START_S = time.time() - time.monotonic()


def steady_time(*_: Any) -> float:
    """Return seconds since 1970 as they were at the import, plus what has passed since."""
    return _START_S + time.monotonic()


def use_steady_clock() -> None:
    """Give the event loops of this process a clock that is never set; may be repeated."""
    from distributed import batched

    for owner in (batched, batched.IOLoop):
        if hasattr(owner, "time"):  # what a later version has renamed keeps its own clock
            setattr(owner, "time", steady_time)  # noqa: B010 - mypy refuses the assignment


def dask_setup(server: Scheduler | Worker) -> None:
    """Called by Dask in the server's process."""
    use_steady_clock()
