"""A worker that stands still is named and replaced; one that computes in silence is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from distributed import Client, LocalCluster
from hypothesis import given
from hypothesis import strategies as st

from deploy import open_cluster
from deploy.clusters import silence, silent_workers
from deploy.clusters.silence import LEAST, ProcessState, Silence, ask_after_s, standstill
from deploy.clusters.silent_workers import watched

ROOT = Path(__file__).parents[3]

STATES = st.builds(
    ProcessState, is_stopped=st.booleans(), cpu_s=st.floats(0, 1e6),
    transferred=st.integers(0, 2**60),
)  # fmt: skip
OBSERVATIONS = st.lists(st.one_of(STATES, st.sampled_from(["no answer", "unknown"])), max_size=8)


@given(before=OBSERVATIONS, first=STATES, more_s=st.floats(0.01, 100), at=st.integers(1, LEAST - 1))
def test_a_process_that_makes_progress_does_not_stand_still(before, first, more_s, at):
    """Whatever was observed before, and even where a signal stopped it for a while."""
    later = ProcessState(is_stopped=True, cpu_s=first.cpu_s + more_s, transferred=first.transferred)
    assert standstill([*before, *[first] * (LEAST - at), *[later] * at]) is None


@given(before=OBSERVATIONS, state=STATES)
def test_a_process_without_any_progress_stands_still(before, state):
    why = standstill([*before, *[state] * LEAST])
    what = "is stopped" if state.is_stopped else "makes no progress"
    assert why == f"its process {what}"


@given(before=OBSERVATIONS)
def test_a_nanny_that_does_not_answer_several_times_stands_still_too(before):
    assert standstill([*before, *["no answer"] * LEAST]) == "and so is its nanny"
    assert standstill([*before, "no answer", "unknown", "no answer"]) is None
    assert standstill([*before, *["unknown"] * LEAST]) is None


def test_a_heartbeat_ends_a_silence_and_large_clusters_send_fewer():
    silent = Silence(last_seen=7.0).after(5.0, last_seen=7.0).after(6.0, last_seen=7.0)
    assert silent.silent_s == 11.0
    assert silent.with_observation("no answer").after(4.0, last_seen=8.0) == Silence(last_seen=8.0)
    assert ask_after_s(2) == silence.ASK_AFTER_S
    assert ask_after_s(4000) > 5 * 20


@pytest.fixture
def impatient(monkeypatch):
    """Have a second of silence count as ten."""
    monkeypatch.setattr(silence, "ASK_AFTER_S", 1.5)
    monkeypatch.setattr(silence, "HEARTBEATS", 0)
    monkeypatch.setattr(silent_workers, "CHECK_EVERY_S", 0.5)


def slept(number):
    time.sleep(0.1)
    return number, os.getpid()


def until(what, *, within_s=60):
    end = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_stopped_worker_is_named_replaced_and_its_tasks_are_done_by_others(impatient):
    said = []
    with open_cluster("local", workers=2, dashboard=":0", notify=said.append) as client:
        before = client.run(os.getpid)
        names = {address: record["name"] for address, record in records(client).items()}
        address, pid = next(iter(before.items()))
        held = client.submit(time.sleep, 0.5, workers=[address], allow_other_workers=True)
        until(lambda: client.processing()[address])
        os.kill(pid, signal.SIGSTOP)
        results = client.gather(client.map(slept, range(30), pure=False))
        held.result(timeout=60)
        until(lambda: len(client.nthreads()) == 2)
        assert pid not in client.run(os.getpid).values()
        assert [number for number, _ in results] == list(range(30))
        closing = time.monotonic()
    assert time.monotonic() - closing < 15
    assert len(said) == 1
    assert said[0].startswith(f"worker {names[address]} on 127.0.0.1 has been silent for ")
    assert said[0].endswith(" s, its process is stopped; its work goes to other workers")


def test_the_end_of_a_cluster_does_not_wait_for_a_stopped_worker():
    with open_cluster("local", workers=2, dashboard=":0") as client:
        pid = next(iter(client.run(os.getpid).values()))
        os.kill(pid, signal.SIGSTOP)
        closing = time.monotonic()
    assert time.monotonic() - closing < 15
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def records(client):
    return client.scheduler_info(n_workers=-1)["workers"]


def computes_in_silence():
    """Hold Python's lock for some seconds, as a compilation does: no heartbeat is sent."""
    speed = 0.0  # the highest of several: the machine may have other work meanwhile
    for _ in range(8):
        start = time.monotonic()
        sum(range(1_000_000))
        speed = max(speed, 1_000_000 / (time.monotonic() - start))
    start = time.monotonic()
    sum(range(round(speed * 7)))  # one call in C
    return os.getpid(), time.monotonic() - start


@pytest.mark.slow
def test_a_worker_that_computes_in_silence_is_left_alone(impatient):
    said = []
    with open_cluster("local", workers=1, dashboard=":0", notify=said.append) as client:
        (pid,) = client.run(os.getpid).values()
        computed_by, took_s = client.submit(computes_in_silence, retries=0).result(timeout=100)
        assert took_s > 3.5, "it was not silent for long enough to be given up"
        assert computed_by == pid
        assert list(client.run(os.getpid).values()) == [pid]
    assert said == []


@pytest.mark.slow
def test_a_job_that_was_suspended_is_given_up_and_joins_again_once_it_resumes(
    impatient, monkeypatch, tmp_path
):
    monkeypatch.setattr(silent_workers, "ANSWER_S", 1.0)
    far = str(time.time() + 10_000)
    environment = {
        **os.environ, "OVERTILE_JOB_ENDS_AT": far, "OVERTILE_DRAIN_S": "30",
        "OVERTILE_CLOSE_S": "5", "PYTHONPATH": str(ROOT),  # the job imports this module
    }  # fmt: skip
    said = []
    with (
        LocalCluster(n_workers=0, dashboard_address=":0", host="127.0.0.1") as cluster,
        Client(cluster, set_as_default=False) as client,
        watched(client, said.append),
    ):
        job = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address,
             "--nworkers", "1", "--nthreads", "1", "--nanny", "--no-dashboard", "--name", "job-1",
             "--preload", "deploy.batch_jobs.drain", "--death-timeout", "30"],
            env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            client.wait_for_workers(1, timeout=60)
            (before,) = client.run(os.getpid).values()
            processes = [*psutil.Process(job.pid).children(recursive=True), psutil.Process(job.pid)]
            waiting = client.submit(slept, 7, pure=False)
            for process in processes:
                process.suspend()
            stopped_at = time.monotonic()
            until(lambda: not client.nthreads())
            until(lambda: time.monotonic() - stopped_at > 6)
            for process in reversed(processes):
                process.resume()
            client.wait_for_workers(1, timeout=60)
            until(lambda: len(client.nthreads()) == 1)
            (after,) = client.run(os.getpid).values()
            assert after != before
            assert waiting.result(timeout=30)[0] == 7
            assert job.poll() is None
        finally:
            job.terminate()
            job.wait(30)
    assert len(said) == 1
    assert " and so is its nanny; its work goes to other workers" in said[0]
