"""Samples made ahead of the network, by as many threads as it takes that it does not wait.

    maker threads   |s7 p0|s7 p1|s8 p0|s8 p1|     one sample (step, patch) each, in this order
    network               |-- step 6 --|-- step 7 --|

A sample is a function of seed, step and number, so the threads change when it is made, and nothing
else. They start as one (a few beside a GPU); where the network still waits for more than WAIT_SHARE
of its time, another one starts, as long as that helps and there are cores.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import islice
from queue import Empty, SimpleQueue
from statistics import median
from typing import Final

import torch

from .maker import Batch, Sample, SampleMaker, joined

WAIT_SHARE: Final = 0.05
"""Of the time, beyond which another thread starts."""
WINDOW_BATCHES, WINDOW_S = 10, 2.0
"""A share is measured over so many batches, and over so many seconds at least."""
HELPS: Final = 0.9
"""A thread after which a batch takes more than this part of the time before was the last one."""
AHEAD: Final = 1
"""Batches that wait for the network, besides those that are being made."""
GPU_THREADS: Final = 4
"""Beside a GPU a batch takes longer on the CPU than a step on the GPU: so many threads start."""


def batches_ahead(
    maker: SampleMaker, steps: range, numbers: Sequence[int], *, most_threads: int | None = None
) -> Iterator[Batch]:
    """Yield the batches of these steps, in order; threads make them while the network computes.

    numbers: of the patches that this rank takes of each step. most_threads: None for the cores that
    this process may use. Raises what making a sample raises.
    """
    first = 1 if maker.device == "cpu" else GPU_THREADS
    pace = Pace(threads=first, most=most_threads or max(first, usable_cores(maker.device)))
    threads = MakerThreads(maker.sample, count=first)
    left = iter(steps)
    coming: deque[list[Future[Sample]]] = deque()

    def request() -> None:
        wanted = AHEAD + -(-pace.threads // max(1, len(numbers)))
        for step in islice(left, wanted - len(coming)):
            coming.append([threads.request(step, number) for number in numbers])

    try:
        request()
        since = None
        while coming:
            began = time.perf_counter()
            batch = joined([future.result() for future in coming.popleft()], numbers)
            now = time.perf_counter()
            if since is not None and pace.adds_thread(waited_s=now - began, all_s=now - since):
                threads.start_one()
            since = now
            request()
            yield batch
    finally:
        threads.close()


class Pace:
    """Decides, from the time that the network waited, whether another thread makes samples."""

    def __init__(self, *, threads: int, most: int) -> None:
        self.threads, self._most = threads, most
        self._batch_before_s: float | None = None
        """Median seconds per batch before the last thread started: one may hold a validation."""
        self._restart()

    def adds_thread(self, *, waited_s: float, all_s: float) -> bool:
        """Return whether to start a thread now, after a batch.

        all_s: since the batch before, of which the network waited ``waited_s`` for this one.
        """
        self._waited_s.append(waited_s)
        self._batches_s.append(all_s)
        window_s = sum(self._batches_s)
        if len(self._batches_s) < WINDOW_BATCHES or window_s < WINDOW_S:
            return False
        share, batch_s = sum(self._waited_s) / window_s, median(self._batches_s)
        self._restart()
        if share <= WAIT_SHARE or self.threads >= self._most:
            return False
        if self._batch_before_s is not None and batch_s > HELPS * self._batch_before_s:
            self._most = self.threads
            return False
        self._batch_before_s = batch_s
        self.threads += 1
        return True

    def _restart(self) -> None:
        self._waited_s: list[float] = []
        self._batches_s: list[float] = []


class MakerThreads:
    """Threads that make samples in the order of the requests; more can be started."""

    def __init__(self, make: Callable[[int, int], Sample], *, count: int) -> None:
        self._make = make
        self._requests: SimpleQueue[tuple[Future[Sample], int, int] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        for _ in range(count):
            self.start_one()

    def start_one(self) -> None:
        """Start one more thread."""
        thread = threading.Thread(target=self._work, name="samples", daemon=True)
        self._threads.append(thread)
        thread.start()

    def request(self, step: int, number: int) -> Future[Sample]:
        """Return a future of a sample."""
        future: Future[Sample] = Future()
        self._requests.put((future, step, number))
        return future

    def close(self) -> None:
        """Wait for the samples that are being made; cancel the others, and end the threads."""
        try:
            while (request := self._requests.get_nowait()) is not None:
                request[0].cancel()
        except Empty:
            pass
        for _ in self._threads:
            self._requests.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (request := self._requests.get()) is not None:
            future, step, number = request
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(self._make(step, number))
                except BaseException as error:  # raised where the sample is wanted
                    future.set_exception(error)
            del request, future  # a sample is not kept until the next request


def usable_cores(device: str) -> int:
    """Return the cores that this process may use: on a CPU torch's, else a share of the GPU's."""
    if device == "cpu":
        return torch.get_num_threads()
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, cores // max(1, torch.cuda.device_count()))
