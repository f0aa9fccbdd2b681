"""How much of the blocks in progress is done: workers send it to the driver while they compute.

A block may take minutes, and one per worker may be all that a run has. Messages are Dask events: a
few bytes through the scheduler, which the run never waits for. A message that is lost costs a
display its precision, nothing else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

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

    def __init__(self, client: Client, run_token: str) -> None:
        self._run_token = run_token
        self._lock = threading.Lock()
        self._parts: dict[Shape, float] = {}
        client.subscribe_topic(TOPIC, self._take)

    def _take(self, event: tuple[float, Any]) -> None:
        token, index, part = event[1]
        if token == self._run_token:
            with self._lock:
                self._parts[tuple(index)] = part

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
