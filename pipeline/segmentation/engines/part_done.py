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


class PartReport:
    """Puts what is stored of a block, and reports at times which part of the block is done."""

    def __init__(
        self, put: Put, *, run_token: str, index: Shape, voxels: int, pause_s: float
    ) -> None:
        """voxels: of the block. Outside a Dask worker nothing is reported."""
        self._put = put
        self._key = [run_token, list(index)]
        self._voxels, self._pause_s = voxels, pause_s
        self._done, self._most, self._sent_at = 0, 0.0, time.monotonic()
        self._tile: tuple[Box, int] | None = None
        """The tile in progress, and the voxels that were done before it."""
        self._worker = _this_worker()

    def put(self, box: Box, planes: StoredPlanes) -> None:
        """Put the planes of a box, and count its voxels."""
        self._put(box, planes)
        self._done += box.voxels
        if self._worker is not None:
            voxels_computed(self._worker).add(box.voxels)
        self._report(self._done)

    def share(self, tile: Box, share: float) -> None:
        """Take the share of a tile that is done, whose planes are put late."""
        if self._tile is None or self._tile[0] != tile:
            self._tile = (tile, self._done)
        _, before = self._tile
        self._report(before + share * tile.voxels)

    def _report(self, done: float) -> None:
        self._most = max(self._most, done)  # planes are put after their share was reported
        if self._worker is None or time.monotonic() - self._sent_at < self._pause_s:
            return
        self._sent_at = time.monotonic()
        part = min(self._most / self._voxels, 0.99)  # the planes of a halved tile are put again
        self._worker.log_event(TOPIC, [*self._key, part])


def _this_worker() -> Any:
    """Return the Dask worker that runs this task, or None."""
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None


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
