"""Workers leave before their walltime without losing a block; the watchdog ends orphaned jobs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import cloudpickle
import pytest
from distributed import Client

from deploy.batch_jobs.departure import TOPIC, Departure
from deploy.batch_jobs.watchdog import Watchdog
from pipeline.base.scheduling import InFlightLimit, drive, one_by_one

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests


class Workers:
    """Worker processes like those in jobs, with a scheduler in this process."""

    def __init__(self, client, folder):
        self.client, self.folder, self.processes = client, folder, {}

    def start(self, name):
        """Start a worker whose job has no end yet, after an earlier one of its name has ended."""
        if name in self.processes:
            self.processes[name].wait(timeout=30)
        self.wait_until(lambda: name not in self.names())
        times = {"JOB_ENDS_AT": str(time.time() + 1e6), "DRAIN_S": "10", "CLOSE_S": "5"}
        command = [
            sys.executable, "-m", "distributed.cli.dask_worker", self.client.scheduler.address,
            "--name", name, "--nthreads", "2", "--host", "127.0.0.1", "--no-dashboard",
            "--preload", "deploy.batch_jobs.drain",
        ]  # fmt: skip
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        env = {**os.environ, **{f"OVERTILE_{key}": value for key, value in times.items()}}
        self.processes[name] = subprocess.Popen(command, env=env, **quiet)
        self.wait_until(lambda: name in self.names())

    def wait_until(self, holds):
        until = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < until
            time.sleep(0.05)

    def address(self, name):
        workers = self.client.scheduler_info(n_workers=-1)["workers"].items()
        (address,) = (address for address, worker in workers if worker["name"] == name)
        return address

    def end_job(self, name, *, drain_in_s, close_in_s):
        """Make a worker leave soon, as near its walltime."""

        async def near(dask_worker):
            from deploy.batch_jobs.drain import leave_in_time

            now = time.time()
            leave_in_time(dask_worker, drain_at=now + drain_in_s, close_at=now + close_in_s)

        self.client.run(near, workers=[self.address(name)])

    def names(self):
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        return {worker["name"] for worker in workers}

    def blocks(self, count, *, block_s):
        """Compute blocks as a run does; return the starts and the worker of each block."""
        file = self.folder / f"starts-{time.time()}"
        file.touch()

        def block(number):
            from distributed import get_worker

            with file.open("a") as starts:
                starts.write(f"{number}\n")
            time.sleep(block_s)
            return get_worker().name

        def submit(number):
            return self.client.submit(block, number, pure=False, retries=0)

        outcomes = []
        limit, stop = InFlightLimit(self.client), threading.Event()
        for batch in drive(
            self.client, iter(range(count)), one_by_one(submit), limit=limit, stop=stop
        ):
            outcomes += batch
        assert [outcome.error for outcome in outcomes if outcome.error] == []
        starts = Counter(int(line) for line in file.read_text().split())
        return starts, {outcome.item: outcome.result for outcome in outcomes}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Client(
        n_workers=0, dashboard_address=None, host="127.0.0.1", set_as_default=False
    ) as client:
        workers = Workers(client, tmp_path_factory.mktemp("blocks"))
        yield workers
        for process in workers.processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def workers(cluster):
    """Return a cluster with a worker ``stays``, and another one, ``leaves``, for each test."""
    if "stays" not in cluster.names():
        cluster.start("stays")
    cluster.start("leaves")
    return cluster


def test_a_worker_leaves_before_its_walltime_and_no_block_starts_twice(workers):
    workers.end_job("leaves", drain_in_s=1, close_in_s=6)
    ends_at = time.time() + 6
    starts, done_by = workers.blocks(16, block_s=0.6)
    assert set(starts) == set(range(16))
    assert set(starts.values()) == {1}, "a block was computed twice"
    assert set(done_by.values()) == {"stays", "leaves"}
    assert workers.processes["leaves"].wait(timeout=max(0.1, ends_at - time.time())) == 0
    assert workers.names() == {"stays"}


@pytest.mark.slow
def test_waiting_tasks_of_a_leaving_worker_move_to_others_at_once(workers):
    address = workers.address("leaves")

    def block(number):
        start = time.time()
        time.sleep(3)
        return start, time.time()

    options = {"workers": [address], "allow_other_workers": True, "pure": False}
    blocks = workers.client.map(block, range(4), **options)
    until = time.monotonic() + 5  # one that stealing took away waits there no more
    while len(workers.client.processing()[address]) < 4 and time.monotonic() < until:
        time.sleep(0.05)
    workers.end_job("leaves", drain_in_s=0, close_in_s=10)
    times = workers.client.gather(blocks)
    assert max(start for start, _ in times) < min(end for _, end in times)


@pytest.mark.slow
def test_a_block_longer_than_the_drain_is_computed_again_and_not_counted_as_a_failure(workers):
    workers.end_job("leaves", drain_in_s=0.5, close_in_s=2)
    starts, done_by = workers.blocks(4, block_s=3)
    assert set(done_by.values()) == {"stays"}
    assert sorted(starts.values()) == [1, 1, 2, 2]
    left = Departure.from_event(workers.client.get_events(TOPIC)[-1][1])
    assert (left.name, left.tasks_done) == ("leaves", 0)
    assert 1 < left.ran_s <= left.life_s < 4
    assert workers.processes["leaves"].wait(timeout=5) == 0


@pytest.mark.slow
def test_a_worker_that_cannot_drain_leaves_and_its_blocks_are_computed_by_others(workers):
    """As with a release of distributed without the parts that a drain uses."""

    def forbid():
        from deploy.batch_jobs import drain

        drain.can_drain = lambda worker: False

    workers.client.run(forbid, workers=[workers.address("leaves")])
    workers.end_job("leaves", drain_in_s=1, close_in_s=30)
    starts, done_by = workers.blocks(6, block_s=1.2)
    assert set(starts) == set(done_by) == set(range(6))
    assert "stays" in done_by.values()
    assert workers.processes["leaves"].wait(timeout=15) == 0


def test_the_last_workers_deliver_their_results_and_the_next_one_takes_the_waiting_blocks(workers):
    for name in ("stays", "leaves"):
        workers.end_job(name, drain_in_s=1, close_in_s=6)

    def start_next():
        workers.processes["leaves"].wait()
        workers.start("next")

    after = threading.Thread(target=start_next)
    after.start()
    starts, done_by = workers.blocks(16, block_s=0.6)
    after.join()
    assert [workers.processes[name].wait(timeout=5) for name in ("stays", "leaves")] == [0, 0]
    assert set(starts.values()) == {1}, "a block was computed twice"
    assert set(done_by.values()) == {"stays", "leaves", "next"}


def test_a_worker_without_the_times_of_its_job_does_not_start(cluster, monkeypatch):
    for name in ("OVERTILE_JOB_ENDS_AT", "OVERTILE_DRAIN_S", "OVERTILE_CLOSE_S"):
        monkeypatch.delenv(name, raising=False)
    command = [
        sys.executable, "-m", "distributed.cli.dask_worker", cluster.client.scheduler.address,
        "--preload", "deploy.batch_jobs.drain",
    ]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode
    assert "configure the container to pass the job's environment on" in said.stderr


@pytest.fixture
def cancel(tmp_path):
    """Return a command that writes down the jobs to cancel; its first call fails."""
    command, noted = tmp_path / "cancel", tmp_path / "noted"
    command.write_text(
        f"#!/bin/bash\nif [ ! -e {noted}.tried ]; then touch {noted}.tried; exit 1; fi\n"
        f'echo "$@" > {noted}.part; mv {noted}.part {noted}\n'
    )
    command.chmod(0o755)
    return command, noted


def test_the_watchdog_cancels_the_jobs_that_are_left_and_retries(cancel):
    command, noted = cancel
    with Watchdog([str(command), "--now"]) as watchdog:
        for job_id in ("17", "18", "19"):
            watchdog.add(job_id)
        watchdog.remove("18")
        assert not noted.exists()
    assert noted.read_text() == "--now 17 19\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_watchdog_outlives_a_driver_that_is_killed_and_removes_its_keys(
    number, cancel, tmp_path
):
    command, noted = cancel
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from deploy.batch_jobs.watchdog import Watchdog\nfrom deploy.tls.keys import make_keys\n"
        "keys = Path(sys.argv[2])\nmake_keys(keys)\n"
        "watchdog = Watchdog([sys.argv[1]], keys=keys)\n"
        "watchdog.add('17')\nprint('ready', flush=True)\ntime.sleep(600)\n"
    )
    keys = tmp_path / "tls-1"
    driver = subprocess.Popen(
        [sys.executable, "-c", code, str(command), str(keys)], stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    with driver:
        assert driver.stdout.readline() == b"ready\n"
        assert (keys / "key.pem").is_file()
        os.killpg(driver.pid, number)
        driver.wait(timeout=10)
    until = time.monotonic() + 20
    while not noted.exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    assert noted.read_text() == "17\n"
    assert not keys.exists()


def test_a_driver_whose_watchdog_was_killed_cancels_its_jobs_itself(cancel):
    command, noted = cancel
    with Watchdog([str(command)]) as watchdog:
        watchdog.add("17")
        watchdog._process.kill()
        watchdog._process.wait()
        watchdog.add("18")
    assert noted.read_text() == "17 18\n"
