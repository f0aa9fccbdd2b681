"""Clusters: local ones end with the run, existing ones keep running, timeouts are reported."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import threading
import time
from contextlib import suppress

import psutil
import pytest
from distributed import LocalCluster

from deploy import ClusterSpec, open_cluster, parse_cluster
from deploy.clusters import local
from deploy.clusters.local import local_workers
from deploy.clusters.machine import cores
from deploy.clusters.worker_environment import KEPT_MEMORY, torch_threads
from deploy.clusters.worker_memory import worker_memory_bytes
from faults.commands import PROGRAM
from faults.separate_cluster import SeparateCluster
from pipeline.base import workers as present
from pipeline.base.errors import ClusterError
from pipeline.base.worker_profile import WORKER_PROFILE
from pipeline.base.workers import present_workers, workers_of


def worker_processes(client):
    """Return the processes of all workers."""
    return [psutil.Process(pid) for pid in client.run(os.getpid).values()]


def ended(processes, *, within_s):
    """Return whether all processes end in time; a zombie has ended."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not any(is_running(process) for process in processes):
            return True
        time.sleep(0.1)
    return False


def is_running(process):
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("local", ClusterSpec()),
        ("tcp://10.0.0.1:8786", ClusterSpec(kind="address", where="tcp://10.0.0.1:8786")),
        ("tls://node-3:80", ClusterSpec(kind="address", where="tls://node-3:80")),
    ],
)
def test_a_name_an_address_or_a_file_specifies_a_cluster(text, spec):
    assert parse_cluster(text) == spec


def test_a_scheduler_file_is_resolved_to_an_absolute_path(tmp_path, monkeypatch):
    (tmp_path / "s.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert parse_cluster("s.json").where == str(tmp_path / "s.json")


@pytest.mark.parametrize(
    ("text", "workers", "says"),
    [
        ("", None, "expected local"),
        ("nowhere.json", None, "expected local"),
        ("10.0.0.1:8786", None, "like tcp://HOST:PORT"),
        ("tcp://10.0.0.1", None, "expected host and port"),
        ("tcp://:8786", None, "expected host and port"),
        ("tcp://10.0.0.1:8786", 2, "--workers applies to"),
        ("local", 0, "expected at least 1"),
    ],
)
def test_an_invalid_cluster_is_reported_in_one_line(text, workers, says):
    with pytest.raises(ClusterError, match=says) as caught:
        parse_cluster(text, workers=workers)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [1, 2, 1000])
def test_workers_share_the_cores_and_each_has_at_least_one(workers):
    processes, threads = local_workers(ClusterSpec(workers=workers))
    assert processes == workers
    assert threads >= 1
    assert processes * threads <= max(cores(), workers)


@pytest.mark.parametrize(
    ("cores", "gib", "workers"),
    [
        (2, 64, 2),
        (64, 999, 8),
        (8, 10, 2),
        (4, 1, 1),
        (9, 99, 8),
        (11, 99, 5),
        (12, 99, 6),
        (1, 9, 1),
    ],
)
def test_default_workers_are_limited_to_eight_and_by_memory_and_leave_few_cores_unused(
    cores, gib, workers, monkeypatch
):
    monkeypatch.setattr(local, "cores", lambda: cores)
    monkeypatch.setattr(local, "memory_bytes", lambda: gib * 2**30)
    assert local_workers(ClusterSpec())[0] == workers
    assert local_workers(ClusterSpec(workers=3))[0] == 3


def blocked_signals():
    return [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])]


def test_local_workers_are_processes_with_their_share_of_cores_and_end_with_the_cluster():
    before = os.environ.get("PYTHONWARNINGS"), blocked_signals()
    with open_cluster("local", workers=2, dashboard=":0") as client:
        processes = worker_processes(client)
        assert len({process.pid for process in processes} - {os.getpid()}) == 2
        assert set(client.nthreads().values()) == {3}
        limits = {worker["memory_limit"] for worker in workers_of(client).values()}
        assert limits == {worker_memory_bytes(ClusterSpec(workers=2))}
        assert client.dashboard_link.startswith("http://127.0.0.1:")
    assert ended(processes, within_s=10)
    assert (os.environ.get("PYTHONWARNINGS"), blocked_signals()) == before


@pytest.mark.parametrize("workers", [1, 2])
def test_torch_uses_all_cores_over_all_workers(workers, monkeypatch):
    for name in torch_threads(1):
        monkeypatch.delenv(name, raising=False)
    with open_cluster("local", workers=workers, dashboard=":0") as client:
        threads = client.submit(_torch_threads).result(timeout=100)
    assert threads == max(1, cores() // workers)


def test_a_cluster_does_not_change_the_environment_of_its_process(monkeypatch):
    names = {*torch_threads(1), *KEPT_MEMORY, "OPENBLAS_NUM_THREADS"}
    for name in names:
        monkeypatch.delenv(name, raising=False)
    with open_cluster("local", workers=1, dashboard=":0") as client:
        assert names.isdisjoint(os.environ)
        (address,) = client.nthreads()
        worker_processes(client)[0].kill()
        until = time.monotonic() + 60
        while address in client.nthreads() or not client.nthreads():
            assert time.monotonic() < until, "no other worker came"
            time.sleep(0.05)
    assert names.isdisjoint(os.environ)


def test_torch_uses_the_number_of_threads_in_the_environment(monkeypatch):
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with open_cluster("local", workers=1, dashboard=":0") as client:
        assert client.submit(_torch_threads).result(timeout=100) == 1


def _torch_threads():
    import torch

    return torch.get_num_threads()


def test_local_workers_and_their_scheduler_leave_the_cores_to_the_network():
    def told(names):
        import dask

        return {n: os.environ.get(n) or dask.config.get(n, None) for n in names}

    assert local.worker_settings(1).items() >= WORKER_PROFILE.items()  # not seen in a worker here
    wanted = {**KEPT_MEMORY, **local.SELDOM}
    with open_cluster("local", workers=1, dashboard=":0") as client:
        assert list(client.run(told, list(wanted)).values()) == [wanted]
        tick = client.run_on_scheduler(
            lambda dask_scheduler: dask_scheduler.periodic_callbacks["tick"].callback_time
        )
        assert tick == 500


def test_ctrl_c_in_the_terminal_reaches_the_driver_alone_even_after_a_worker_restarted():
    with open_cluster("local", workers=1, dashboard=":0") as client:
        (first,) = worker_processes(client)
        (first_address,) = client.nthreads()
        first.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert is_running(first)
        first.kill()
        assert ended([first], within_s=10)
        until = time.monotonic() + 60
        while first_address in client.nthreads() or not client.nthreads():
            assert time.monotonic() < until, "no other worker came"
            time.sleep(0.05)
        (second,) = worker_processes(client)
        assert second.pid != first.pid
        second.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert client.submit(lambda: 7, pure=False).result(timeout=30) == 7


def test_an_error_in_the_run_ends_busy_workers_at_once():
    started = {}

    def interrupted(client):
        started["processes"] = worker_processes(client)
        futures = client.map(time.sleep, [600, 601, 602], pure=False)
        while not any(client.processing().values()):
            time.sleep(0.05)
        started["at"] = time.monotonic()
        raise KeyboardInterrupt(futures)

    with (
        pytest.raises(KeyboardInterrupt),
        open_cluster("local", workers=1, dashboard=":0") as client,
    ):
        interrupted(client)
    assert time.monotonic() - started["at"] < 4, "it waited for them"
    assert ended(started["processes"], within_s=5)


SLOW_TO_CLOSE = """
import os, sys, time
from deploy import open_cluster
from deploy.clusters import local
if __name__ == "__main__":
    with open_cluster("local", workers=2, dashboard=":0") as client:
        print(*client.run(os.getpid).values(), flush=True)
        futures = client.map(time.sleep, [600, 601], pure=False)
        while not any(client.processing().values()):
            time.sleep(0.05)
        local.CLOSE_S = 0.3
"""


@pytest.mark.slow
def test_a_cluster_that_does_not_close_in_time_is_killed_and_its_program_exits(commands, tmp_path):
    (tmp_path / "program.py").write_text(SLOW_TO_CLOSE)
    program = commands.start([tmp_path / "program.py"], call=PROGRAM)
    assert program.ended(within_s=60).code == 0, program.text
    pids = [int(word) for word in program.printed.split()]
    assert len(pids) == 2
    assert ended([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], within_s=5)


def test_a_dashboard_port_in_use_is_replaced_silently(recwarn):
    with (
        open_cluster("local", workers=1, dashboard="127.0.0.1:0") as one,
        open_cluster("local", workers=1, dashboard=one.dashboard_link[7:].split("/")[0]) as two,
    ):
        assert one.dashboard_link != two.dashboard_link
    assert [w for w in recwarn if "Port" in str(w.message)] == []


def test_a_cluster_opens_inside_a_running_event_loop(existing):
    import asyncio

    async def in_a_notebook():
        with open_cluster(address_of(existing)) as client:
            return client.scheduler_info(n_workers=-1)["address"]

    assert asyncio.run(in_a_notebook()) == address_of(existing)


def address_of(cluster):
    """Return the address in the scheduler file of a cluster."""
    return json.loads(cluster.file.read_text())["address"]


@pytest.fixture(scope="module")
def existing(commands, tmp_path_factory):
    """Return a cluster of a scheduler and a worker, which are not of a run."""
    cluster = SeparateCluster(commands, tmp_path_factory.mktemp("existing"), nannies=1)
    yield cluster
    cluster.close()


@pytest.mark.parametrize("how", ["address", "file"])
def test_an_existing_cluster_keeps_running_after_a_run(how, existing):
    where = address_of(existing) if how == "address" else str(existing.file)
    for _ in range(2):
        with open_cluster(where, timeout_s=30) as client:
            assert client.submit(lambda: 7, pure=False).result(timeout=30) == 7
    with pytest.raises(RuntimeError, match="ours"), open_cluster(where, timeout_s=30):
        raise RuntimeError("ours")
    assert [one.poll() for one in (existing.scheduler, *existing.nannies)] == [None, None]


def test_a_scheduler_without_workers_is_an_error(commands, tmp_path):
    empty = SeparateCluster(commands, tmp_path, nannies=0)
    try:
        with (
            pytest.raises(ClusterError, match="has no workers"),
            open_cluster(str(empty.file), timeout_s=1),
        ):
            pass
    finally:
        empty.close()


def test_a_scheduler_that_does_not_answer_is_reported_in_time_and_leaves_no_thread():
    threads = threading.active_count()
    start = time.monotonic()
    with (
        pytest.raises(
            ClusterError, match=r"no Dask scheduler answered at tcp://127\.0\.0\.1:1 within 1 s"
        ),
        open_cluster("tcp://127.0.0.1:1", timeout_s=1.0),
    ):
        pass
    assert time.monotonic() - start < 5
    assert threading.active_count() <= threads + 1  # distributed's offload thread stays


def test_the_log_of_distributed_is_silenced_until_the_cluster_has_closed():
    handler = logging.StreamHandler(io.StringIO())
    log = logging.getLogger("distributed")
    log.addHandler(handler)
    try:
        with open_cluster("local", workers=1, dashboard=":0") as client:
            client.cluster.close()
            assert handler.level == logging.CRITICAL
        assert handler.level == logging.NOTSET
        assert handler.stream.getvalue() == ""
    finally:
        log.removeHandler(handler)


def test_workers_that_all_left_are_waited_for_as_long_as_for_the_first_one(monkeypatch):
    """The jobs of a batch cluster may all wait in the queue between two regions."""
    monkeypatch.setattr(present, "RESTART_S", 0.2)
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        spec = ClusterSpec(kind="address", where=cluster.scheduler_address, first_worker_s=60.0)
        with open_cluster(spec) as client:
            cluster.scale(0)
            until = time.monotonic() + 20
            while workers_of(client):
                assert time.monotonic() < until
                time.sleep(0.05)
            joining = threading.Timer(5 * present.RESTART_S, cluster.scale, (1,))
            joining.start()
            assert present_workers(client)
            joining.join()
