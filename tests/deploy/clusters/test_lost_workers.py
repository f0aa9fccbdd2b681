"""A run whose workers cannot be started again ends, with the remedy."""

from __future__ import annotations

import os
import signal
import time

import pytest
from distributed.core import Status
from distributed.process import AsyncProcess

from deploy import open_cluster
from deploy.clusters import local, lost_workers
from pipeline.base.errors import RunError


async def refused(self):
    raise BlockingIOError(11, "Resource temporarily unavailable")


def test_a_run_that_cannot_start_its_worker_again_ends_with_the_remedy(monkeypatch):
    monkeypatch.setattr(lost_workers, "CHECK_EVERY_S", 0.1)
    monkeypatch.setattr(lost_workers, "LOST_S", 0.5)
    with (  # noqa: PT012  the run fails inside
        pytest.raises(RunError, match=r"no worker process is left.*ulimit -u.*again to resume"),
        open_cluster("local", workers=1, dashboard=":0") as client,
    ):
        (worker,) = client.run(os.getpid).values()
        monkeypatch.setattr(AsyncProcess, "start", refused)
        waiting = client.submit(time.sleep, 60, pure=False)
        os.kill(worker, signal.SIGKILL)
        waiting.result(timeout=50)


def test_a_run_that_loses_one_of_two_workers_for_good_ends_well(monkeypatch):
    with open_cluster("local", workers=2, dashboard=":0") as client:
        victim, _ = client.run(os.getpid).values()
        monkeypatch.setattr(AsyncProcess, "start", refused)
        os.kill(victim, signal.SIGKILL)
        until = time.monotonic() + 30
        while not any(map(lost_workers.is_lost, client.cluster.workers.values())):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert client.submit(lambda: 7, pure=False).result(timeout=60) == 7
        began_at = time.monotonic()
    assert time.monotonic() - began_at < local.CLOSE_S


def test_a_worker_that_is_started_again_is_not_lost(monkeypatch):
    monkeypatch.setattr(lost_workers, "CHECK_EVERY_S", 0.02)
    with open_cluster("local", workers=1, dashboard=":0") as client:
        (worker,) = client.run(os.getpid).values()
        os.kill(worker, signal.SIGKILL)
        assert client.submit(lambda: 7, pure=False).result(timeout=60) == 7
        (nanny,) = client.cluster.workers.values()
        assert not lost_workers.is_lost(nanny)
        nanny.process.status = Status.failed
        assert lost_workers.is_lost(nanny)
        nanny.process.status = Status.running
