"""Lets a worker join its cluster again after it stood still and its scheduler gave it up.

Dask ends such a worker for good, with its nanny and its job. Here only the process ends: the nanny
starts another one, which joins. Loaded by workers in jobs, which a batch system may suspend.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from distributed import Worker

GIVEN_UP: Final = "worker-heartbeat-missing"
"""Dask's reason to close a worker that its scheduler does not know."""
BEAT_S: Final = 1.0
STILL_S: Final = 5.0
"""A pause of the event loop of at least this long is a standstill."""
RECENT_S: Final = 60.0

_pulses: set[asyncio.Task[None]] = set()


class Pulse:
    """Notices that the process stood still."""

    def __init__(self) -> None:
        self._beat_at = time.monotonic()
        self._woke_at = float("-inf")

    async def beat(self) -> None:
        """Beat until it is cancelled."""
        while True:
            await asyncio.sleep(BEAT_S)
            self._note()

    def woke_recently(self) -> bool:
        """Return whether a standstill ended within the last minute."""
        self._note()
        return time.monotonic() - self._woke_at < RECENT_S

    def _note(self) -> None:
        now = time.monotonic()
        if now - self._beat_at >= STILL_S:
            self._woke_at = now
        self._beat_at = now


def rejoin_after_standstill(worker: Worker) -> None:
    """Have a worker's nanny restart it if it is given up for a standstill; on its event loop.

    In all other cases it closes as before, and its nanny does not restart it.
    """
    pulse, close = Pulse(), worker.close
    task = asyncio.get_running_loop().create_task(pulse.beat())
    _pulses.add(task)
    task.add_done_callback(_pulses.discard)

    async def closed(
        *args: Any, nanny: bool = True, reason: str = "worker-close", **more: Any
    ) -> Any:
        task.cancel()
        is_given_up = reason == GIVEN_UP and pulse.woke_recently()
        return await close(*args, nanny=nanny and not is_given_up, reason=reason, **more)

    worker.close = closed
