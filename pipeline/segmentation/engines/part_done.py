"""How much of the blocks in progress is done: workers send it to the driver while they compute.

A block may take minutes, and one per worker may be all that a run has. Messages are Dask events: a
few bytes through the scheduler, which the run never waits for. A message that is lost costs a
display its precision, nothing else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from ...base.geometry import Box, Shape
from ...base.tile_request import StoredPlanes
from .tile import Put
from .worker_metric import voxels_computed

if TYPE_CHECKING:
    from distributed import Client

TOPIC: Final = "overtile-part-done"
SHORTEST_PAUSE_S: Final = 1.0
MOST_MESSAGES_PER_S: Final = 100
"""Of all workers together: the scheduler handles thousands."""


def pause_between_messages(threads: int) -> float:
    """Return the seconds between two messages about a block, with so many threads in the cluster.

    >>> pause_between_messages(6), pause_between_messages(3000)
    (1.0, 30.0)
    """
    return max(SHORTEST_PAUSE_S, threads / MOST_MESSAGES_PER_S)


def reporting(put: Put, *, run_token: str, index: Shape, voxels: int, pause_s: float) -> Put:
    """Return ``put`` that also counts voxels, and reports at times which part of a block is done.

    voxels: of the block. Outside a Dask worker nothing is reported.
    """
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return put
    computed = voxels_computed(worker)
    done, sent_at = 0, time.monotonic()

    def reported(box: Box, planes: StoredPlanes) -> None:
        nonlocal done, sent_at
        put(box, planes)
        done += box.voxels
        computed.add(box.voxels)
        if time.monotonic() - sent_at >= pause_s:
            sent_at = time.monotonic()
            part = min(done / voxels, 0.99)  # the planes of a halved tile are put again
            worker.log_event(TOPIC, [run_token, list(index), part])

    return reported


class PartsDone:
    """What the driver knows of the blocks in progress. Any thread may use it."""

    def __init__(
        self, client: Client, run_token: str, *, has_ended: Callable[[Shape], bool]
    ) -> None:
        """has_ended: returns whether a block has ended; later messages about it are dropped."""
        self._has_ended = has_ended
        self._lock = threading.Lock()
        self._parts: dict[Shape, float] = {}
        _RUNS[run_token] = self
        client.subscribe_topic(TOPIC, _dispatch)

    def take(self, index: Shape, part: float) -> None:
        """A block in progress has been done to this part."""
        with self._lock:
            if not self._has_ended(index):
                self._parts[index] = part

    def forget(self, indices: Iterable[Shape]) -> None:
        """Blocks have ended: what is known of their parts no longer counts."""
        with self._lock:
            for index in indices:
                self._parts.pop(index, None)

    @property
    def blocks(self) -> float:
        """The sum of the parts that are done, in blocks."""
        with self._lock:
            return sum(self._parts.values())


_RUNS: Final[WeakValueDictionary[str, PartsDone]] = WeakValueDictionary()
"""By token of the run: a client has one handler per topic, which the runs of a process share."""


def _dispatch(event: tuple[float, Any]) -> None:
    token, index, part = event[1]
    if (run := _RUNS.get(token)) is not None:
        run.take(tuple(index), part)
