"""On a real one-node Slurm: the same voxels, jobs that end with their driver, and hand-overs.

Minutes long: make test-slurm.
"""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import zarr

from deploy import open_cluster
from deploy.clusters.gpu import PRETEND
from deploy.clusters.started import process_of, start_cluster, stop_cluster
from pipeline import segment_volume
from pipeline.base.errors import ClusterError, RunError
from pipeline.base.scheduling import InFlightLimit, drive, one_by_one
from pipeline.base.workers import RESTART_S, device_share
from unet import UNetPredictor

pytestmark = pytest.mark.slurm
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests


@pytest.fixture(scope="module", autouse=True)
def profiles(slurm, tmp_path_factory):
    """Write this module's cluster profiles; return their folder."""
    folder = tmp_path_factory.mktemp("home")
    profiles = folder / "config/overtile"
    profiles.mkdir(parents=True)
    for name, settings in {
        "hpc": "jobs = 2",
        "elastic": "minimum_jobs = 0\nmaximum_jobs = 3\nidle_s = 3",
        "gpu": "jobs = 1\ngpus_per_job = 2",
        "pairs": "jobs = 1\nworkers_per_job = 2",
    }.items():
        (profiles / f"{name}.toml").write_text(f"{slurm.profile}{settings}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        yield profiles


@pytest.fixture(scope="module")
def logs(profiles):
    """Return the folder of the jobs' logs, where their keys are too."""
    return profiles.parents[1] / "state/overtile/jobs"


@pytest.fixture(autouse=True)
def _no_job_is_left(slurm):
    yield
    slurm.wait_until_empty(timeout_s=20)


@pytest.fixture(scope="module")
def volume(profiles, textured):
    """Return two functions: the command that segments a volume, and the classes that it writes."""
    folder = profiles.parent
    zarr.create_array(
        folder / "in.zarr", data=textured((32, 96, 96)), dimension_names=("z", "y", "x")
    )

    def command(name, cluster, *more):
        return [
            sys.executable, "-m", "flows.cli", "segment", str(folder / "in.zarr"),
            str(folder / f"{name}.zarr"), "--weights", "demo", "--block", "16,32,32",
            "--tile", "16,32,32", "--cluster", cluster, *more,
        ]  # fmt: skip

    def classes(name):
        return zarr.open_array(folder / f"{name}.zarr/labels/classes/0")[:]

    segment_volume(
        str(folder / "in.zarr"), str(folder / "local.zarr"), UNetPredictor("demo"),
        block=(16, 32, 32), tile=(16, 32, 32),
    )  # fmt: skip
    assert len(np.unique(classes("local"))) > 1
    return command, classes


@pytest.mark.parametrize("profile", ["hpc", "elastic", "gpu", "pairs"])
def test_a_volume_from_slurm_jobs_equals_the_local_volume(profile, volume, slurm, monkeypatch):
    if profile == "gpu":
        monkeypatch.setenv(PRETEND, "1")
    command, classes = volume
    ran = subprocess.run(command(profile, profile), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    np.testing.assert_array_equal(classes(profile), classes("local"))
    slurm.wait_until_empty(timeout_s=5)


def test_nobody_without_the_keys_reaches_a_run_on_slurm_and_then_the_keys_are_gone(
    logs, strangers, first_byte
):
    with open_cluster("hpc") as client:
        client.wait_for_workers(2, timeout=60)
        (keys,) = logs.glob("tls-*")
        assert stat.S_IMODE(keys.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in keys.iterdir()} == {0o600}
        secret = (keys / "key.pem").read_text().splitlines()[1]
        records = client.scheduler_info(n_workers=-1)["workers"]
        addresses = [client.scheduler.address, *records, *(r["nanny"] for r in records.values())]
        assert len(addresses) == 5
        for address in addresses:
            assert address.startswith("tls://")
            for who, stranger in strangers.items():
                assert first_byte(int(address.rpartition(":")[2]), stranger) == b"", (who, address)
        ours = client.security.get_connection_args("client")["ssl_context"]
        assert first_byte(int(addresses[0].rpartition(":")[2]), ours) != b""
        pages = client.run(lambda dask_worker: dask_worker.http_server.address)
        assert set(pages.values()) == {"127.0.0.1"}
        told = [*client.run(lambda: " ".join(sys.argv)).values()]
    told += [log.read_text(errors="replace") for log in logs.glob("*.log")]
    assert len(told) >= 4
    assert not [text for text in told if secret in text]
    assert not list(logs.glob("tls-*"))


@pytest.mark.parametrize(
    "how", ["SIGINT", pytest.param("SIGTERM", marks=pytest.mark.slow), "SIGKILL"]
)
def test_jobs_and_keys_end_when_their_driver_ends(how, volume, slurm, logs):
    command, _ = volume
    driver = subprocess.Popen(
        command(how, "hpc", "--tta", "full"), stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    with driver:
        assert any("blocks/s" in line for line in driver.stderr), "it computed nothing"
        assert len(slurm.queue()) == 2
        assert list(logs.glob("tls-*/key.pem"))
        os.killpg(driver.pid, signal.Signals[how])
        driver.wait(timeout=20)
    assert driver.returncode == {"SIGKILL": -signal.SIGKILL}.get(how, 1)
    slurm.wait_until_empty(timeout_s=15)
    assert not list(logs.glob("tls-*"))


@pytest.mark.slow
def test_jobs_end_by_themselves_within_a_minute_when_driver_and_watchdog_are_killed(slurm):
    """As when the driver's machine is down: one job is working, one has not started."""
    code = (
        "import sys, time\nfrom deploy import open_cluster\n"
        "with open_cluster('hpc', cpus_per_job=3) as client:\n"
        "    busy = client.map(time.sleep, [600, 601], pure=False)\n"
        "    while sum(map(len, client.processing().values())) < 2: time.sleep(0.1)\n"
        "    print('busy', flush=True)\n    time.sleep(600)\n"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with driver:
        assert driver.stdout.readline() == "busy\n"
        assert len(slurm.queue()) == 2
        guards = subprocess.run(
            ["pgrep", "-P", str(driver.pid), "-f", "deploy.batch_jobs.watchdog"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        (guard,) = map(int, guards.stdout.split())
        os.kill(guard, signal.SIGKILL)
        driver.kill()
    working, waiting = 0.0, 0.0
    start = time.monotonic()
    while left := slurm.queue():
        running = [line for line in left if " R " in line]
        waiting = time.monotonic() - start
        working = waiting if len(left) == 2 else working
        assert waiting < 110, left
        assert running or waiting < 60
        time.sleep(0.5)
    assert working < 60, "a job that worked went on"
    assert waiting - working < 60, "a job that began without a scheduler went on"


def block(number):
    """Simulate a block of four seconds; return its job and times."""
    start = time.time()
    time.sleep(4)
    return {"number": number, "job": os.environ["SLURM_JOB_ID"], "start": start,
            "end": time.time()}  # fmt: skip


def test_jobs_of_a_minute_hand_over_and_no_block_is_lost_or_started_twice(tmp_path):
    starts = tmp_path / "starts"
    starts.touch()

    def noted_block(number):
        with starts.open("a") as file:
            file.write(f"{number}\n")
        return block(number)

    told, blocks = [], 72
    with open_cluster("hpc", walltime="1 min", drain_s=30.0, notify=told.append) as client:
        outcomes, share = [], device_share(client)
        began = time.time()

        def submit(number):
            return client.submit(noted_block, number, pure=False, retries=0, resources=share)

        limit, stop = InFlightLimit(client), threading.Event()
        for batch in drive(client, iter(range(blocks)), one_by_one(submit), limit=limit, stop=stop):
            outcomes += batch
        took_s = time.time() - began
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    assert Counter(int(n) for n in starts.read_text().split()) == Counter(range(blocks))
    results = [outcome.result for outcome in outcomes]
    jobs = {result["job"] for result in results}
    assert len(jobs) >= 6, "workers leave after half a minute, and the run lasts a whole one"
    busy_s = sum(result["end"] - result["start"] for result in results)
    idle = 1 - busy_s / (took_s * 4)
    print(f"\n{took_s:.0f} s over {len(jobs)} jobs; {idle:.0%} of four threads' time was idle")
    assert idle < 0.35, "new jobs do not replace the old ones in time"  # measured: 0.13
    assert [line for line in told if "job" in line and "waiting" not in line] == []


BAD = {
    "no such partition": ({"partition": "nope"}, r"sbatch failed: .*partition.*nope"),
    "more GPUs than there are": ({"gpus_per_job": 9}, r"sbatch failed: .*not available"),
    "no Python there": (
        {"python": "/no/python"},
        r"ended before its worker joined: .*/no/python: No",
    ),
    "too little patience": (
        {"first_worker_s": 3.0, "directives": ["--begin=now+1hour"]},
        r"no worker joined within 3 s \(job \d+ PENDING \(BeginTime\)|submitted",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_jobs_that_cannot_start_are_reported_in_one_line_and_none_is_left(case, slurm):
    settings, says = BAD[case]
    with pytest.raises(ClusterError, match=says) as caught, open_cluster("hpc", **settings):
        pass
    assert "\n" not in str(caught.value)
    slurm.wait_until_empty(timeout_s=5)


def test_a_segmentation_on_an_unknown_partition_exits_with_2_and_writes_nothing(
    volume, profiles, slurm
):
    command, _ = volume
    (profiles / "lost.toml").write_text(slurm.profile.replace('"main"', '"lost"'))
    ran = subprocess.run(
        command("refused", "lost"), capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.returncode == 2
    *before, error = ran.stderr.splitlines()
    assert [line for line in before if not line.startswith("input: ")] == []
    assert re.fullmatch(r"overtile: sbatch failed: .*partition.*lost.*", error), ran.stderr
    assert not Path(command("refused", "lost")[5]).exists()


@pytest.mark.slow
def test_a_walltime_shorter_than_one_block_is_an_error_and_not_an_endless_loop(slurm):
    with (
        pytest.raises(
            ClusterError, match=r"a block did not finish within \d+ s, .* walltime 00:01:00"
        ),
        open_cluster("hpc", jobs=1, walltime="1 min", drain_s=15.0) as client,
    ):
        client.submit(time.sleep, 600, pure=False).result(timeout=300)
    slurm.wait_until_empty(timeout_s=15)


def test_a_gpu_job_without_a_gpu_fails_instead_of_using_the_cpu():
    with (
        pytest.raises(ClusterError, match=r"ended before its worker joined: .*(NVML|finds no GPU)"),
        open_cluster("gpu"),
    ):
        pass


@pytest.mark.slow
def test_a_run_whose_later_jobs_fail_ends_with_the_reason(tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    told = []

    def use(client):
        gate.unlink()
        subprocess.run(["scancel", "--name", "gated", "--signal", "KILL", "--full"], check=True)
        futures = client.map(lambda n: block(n), range(3), pure=False)
        return [future.result(timeout=120) for future in futures]

    with (
        pytest.raises(RunError, match=r"ended before its worker joined: closed .*: run the same"),
        open_cluster(
            "hpc", jobs=1, job_name="gated", notify=told.append,
            prologue=[f"[ -e {gate} ] || {{ echo closed; exit 1; }}"],
        ) as client,
    ):  # fmt: skip
        use(client)
    assert any("next attempt in" in line for line in told)


@pytest.mark.slow
def test_a_run_waits_for_longer_than_a_minute_when_other_jobs_hold_the_machine(volume, slurm):
    """Its own jobs have ended for want of work; the next ones wait in the queue."""
    command, classes = volume
    source, output = command("queued", "elastic")[4:6]
    with open_cluster("elastic") as client:
        assert client.submit(int, resources=device_share(client), pure=False).result(60) == 0
        slurm.wait_until_empty(timeout_s=40)
        subprocess.run(
            ["sbatch", "--quiet", "--exclusive", "--output=/dev/null", "--wrap=sleep 75"],
            check=True,
        )
        began = time.monotonic()
        segment_volume(
            source, output, UNetPredictor("demo"),
            block=(16, 32, 32), tile=(16, 32, 32), client=client,
        )  # fmt: skip
        assert time.monotonic() - began > RESTART_S, "it had not to wait"
    np.testing.assert_array_equal(classes("queued"), classes("local"))


def test_a_started_elastic_cluster_releases_its_jobs_when_idle_and_grows_for_each_run(slurm):
    start_cluster("elastic")
    try:
        for _ in range(2):
            with open_cluster("elastic") as client:
                share = device_share(client)
                futures = client.map(lambda n: block(n), range(8), pure=False, resources=share)
                jobs = {future.result(timeout=60)["job"] for future in futures}
            assert len(jobs) > 1, "it did not grow"
            slurm.wait_until_empty(timeout_s=40)
            assert process_of("elastic").is_running()
    finally:
        stop_cluster("elastic")


def test_a_started_cluster_that_is_killed_leaves_no_job(slurm):
    started = start_cluster("hpc")
    try:
        with open_cluster("hpc") as client:
            client.wait_for_workers(2, timeout=60)
        os.kill(started.pid, signal.SIGKILL)
        slurm.wait_until_empty(timeout_s=15)
    finally:
        stop_cluster("hpc")
