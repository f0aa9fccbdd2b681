"""Local workers are forked from one process that has imported their libraries."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from deploy import open_cluster
from deploy.clusters.fork_server import METHOD, start_fork_server
from deploy.clusters.worker_environment import KEPT_MEMORY

pytestmark = pytest.mark.skipif(METHOD != "forkserver", reason="workers are not forked here")


def loaded_at_start():
    return {name for name in ("torch", "zarr", "distributed") if name in sys.modules}


def parent_pid():
    return os.getppid()


def is_daemon():
    return multiprocessing.current_process().daemon


def environment_at_start():
    variables = Path("/proc/self/environ").read_text().split("\0")
    return dict(one.split("=", 1) for one in variables if one)


@pytest.fixture(scope="module")
def client():
    with open_cluster("local", workers=2, dashboard=":0") as client:
        yield client


def test_workers_have_their_libraries_from_one_server_with_a_single_thread(client):
    start_fork_server()  # once more does nothing
    (server,) = set(client.run(parent_pid).values())
    assert server != os.getpid()
    assert psutil.Process(server).num_threads() == 1, "threads do not survive a fork"
    assert list(client.run(loaded_at_start).values()) == [{"torch", "zarr", "distributed"}] * 2


def test_workers_keep_freed_memory_which_glibc_decides_when_the_server_starts(client):
    for variables in client.run(environment_at_start).values():
        assert variables.items() >= KEPT_MEMORY.items()


def test_a_worker_that_replaces_a_killed_one_is_forked_too(client):
    (server,) = set(client.run(parent_pid).values())
    victim, other = client.run(os.getpid).values()
    os.kill(victim, signal.SIGKILL)
    until = time.monotonic() + 60
    while len(now := client.run(os.getpid, on_error="ignore")) < 2 or victim in now.values():
        assert time.monotonic() < until, now
        time.sleep(0.1)
    assert other in now.values()
    assert set(client.run(parent_pid).values()) == {server}
    assert set(client.run(is_daemon).values()) == {False}, "it could start no process"


def test_a_killed_server_ends_its_workers_and_others_come_from_a_new_one(client):
    (server,) = set(client.run(parent_pid).values())
    before = [psutil.Process(pid) for pid in client.run(os.getpid).values()]
    busy = client.map(time.sleep, [30, 30.5], pure=False, retries=0)
    psutil.Process(server).kill()
    _, alive = psutil.wait_procs(before, timeout=5)
    client.cancel(busy)
    assert alive == [], "a worker that the driver takes for dead goes on"
    until = time.monotonic() + 60
    while server in (seen := set(client.run(parent_pid).values())) or len(seen) != 1:
        assert time.monotonic() < until, seen
        time.sleep(0.2)
    client.wait_for_workers(2, timeout=60)
    assert client.submit(lambda: 7, pure=False).result(timeout=30) == 7
