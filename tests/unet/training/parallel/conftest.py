"""Threads as ranks: the collectives of torch.distributed, between threads of this process."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist


class ThreadRanks:
    """Runs a function on several ranks at once, whose sums are exchanged between threads."""

    def __init__(self):
        self._here = threading.local()

    def __call__(self, function, *, world_size):
        """Return the results of ``function(rank)`` of all ranks."""
        self._barrier = threading.Barrier(world_size, timeout=60)
        self._sent = [None] * world_size

        def call(rank):
            self._here.rank = rank
            try:
                return function(rank)
            except BaseException:
                self._barrier.abort()
                raise

        with ThreadPoolExecutor(world_size) as pool:
            return list(pool.map(call, range(world_size)))

    def _exchanged(self, tensor):
        self._sent[self._here.rank] = tensor.clone()
        self._barrier.wait()
        sent = list(self._sent)
        self._barrier.wait()
        return sent

    def all_reduce(self, tensor):
        tensor.copy_(sum(self._exchanged(tensor)))

    def broadcast(self, tensor, *, src):
        tensor.copy_(self._exchanged(tensor)[src])


@pytest.fixture
def thread_ranks(monkeypatch):
    """Return what runs a function on ranks that are threads."""
    ranks = ThreadRanks()
    for name in ("all_reduce", "broadcast"):
        monkeypatch.setattr(dist, name, getattr(ranks, name))
    return ranks
