"""On a real one-node Slurm: submitted runs give the local volume, and end.

Minutes long: make test-slurm.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import numpy as np
import pytest
import zarr

from deploy.clusters.gpu import PRETEND
from flows.cli.main import main
from pipeline import find_objects, segment_volume
from pipeline.models.tta import with_tta
from unet import UNetPredictor

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).parents[3]
TEMPLATE = ROOT / "deploy/slurm/segment.sbatch"
PATIENCE_S = 400.0
"""Timeout of a single event on a busy machine."""
BLOCKS = 48
LOGS = "logs of 100 %j"
OPTIONS = (
    "--weights", "demo", "--block", "16,16,32", "--tile", "16,16,32", "--tta", "rotations"
)  # fmt: skip
"""More blocks than are in flight at once, each long enough to be interrupted."""


@pytest.fixture(scope="module", autouse=True)
def place(slurm, tmp_path_factory, textured):
    """Return the current folder, with a volume and profiles, beside a Slurm of four cores.

    Its name is one that a script has to quote.
    """
    folder = tmp_path_factory.mktemp("batch") / "ada's $volumes & more"
    profiles = folder / "config/overtile"
    profiles.mkdir(parents=True)
    logs = f"log_directory = {json.dumps(str(folder / LOGS))}\n"
    (profiles / "hpc.toml").write_text(slurm.profile + logs)
    (profiles / "gpu.toml").write_text(f"{slurm.profile}{logs}gpus_per_job = 2\n")
    (profiles / "nope.toml").write_text(slurm.profile.replace("main", "nope") + logs)
    zarr.create_array(
        folder / "in.zarr", data=textured((32, 96, 128)), dimension_names=("z", "y", "x")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.setenv("OVERTILE_PYTHON", sys.executable)
        patch.setenv("OVERTILE_INTERFACE", "lo")
        patch.chdir(folder)
        segment_volume("in.zarr", "local.zarr", with_tta(UNetPredictor("demo"), "rotations"),
                       block=(16, 16, 32), tile=(16, 16, 32))  # fmt: skip
        yield folder


def overtile(*words, code=0):
    """Run a command of the shell in this process; return its output, or its error if it fails."""
    out, error = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(error), pytest.MonkeyPatch.context() as patch:
        patch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers
        ended = main(list(words))
    assert ended == code, error.getvalue()
    return error.getvalue() if code else out.getvalue()


def slurm_says(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def until(what, said=lambda: ""):
    """Wait until a function returns a true value, and return that."""
    start = time.monotonic()
    while not (found := what()):
        assert time.monotonic() - start < PATIENCE_S, said()
        time.sleep(0.2)
    return found


def job(name):
    """Return Slurm's record of a job, or of a task of an array."""
    said = slurm_says("scontrol", "show", "job", "--oneliner", name)
    return dict(re.findall(r"(\w+)=(\S*)", said))


def ended(name):
    """Wait for a job's end and return Slurm's record of it."""

    def at_its_end():
        known = job(name)
        return known if known["JobState"] in ("COMPLETED", "FAILED", "CANCELLED") else None

    return until(at_its_end, said=lambda: log_of(name))


def log_of(name):
    path = Path(LOGS) / f"overtile-{name}.log"
    return path.read_text() if path.exists() else ""


def is_begun(output, share=""):
    """Return whether blocks are done, optionally by one share."""
    path = Path(output) / "run" / share / "done"
    return (path / "c").exists() and np.any(zarr.open_array(path)[:])


def drain_and_hasten(name, *, when):
    """Send the signal before a walltime once blocks are done; then shorten the wait.

    A job that is requeued begins two minutes later: the lifetime of Slurm's credentials.
    """
    until(when, said=lambda: log_of(name))
    slurm_says("scancel", "--batch", "--signal=USR1", name)
    until(lambda: "which resumes" in log_of(name), said=lambda: log_of(name))
    until(lambda: job(name)["JobState"] == "PENDING" or job(name)["Restarts"] == "1")
    if job(name)["JobState"] == "PENDING":
        time.sleep(2)  # credentials of the second in which the last ones ended count as those
        slurm_says("scontrol", "update", f"JobId={name}", "StartTime=now")


def files(name):
    """Return every file of an output except the ledger's, which contains times."""
    root = Path(name)
    inside = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return {str(path): (root / path).read_bytes() for path in inside if path.parts[0] != "run"}


def is_the_local_volume(name):
    ours, local = files(name), files("local.zarr")
    assert len(local) > BLOCKS
    assert ours.keys() == local.keys()
    assert [path for path in local if ours[path] != local[path]] == []
    assert "complete" in overtile("status", name)
    return True


def processes_of(job_id):
    """Return the processes of a job, found by their environment."""
    mark = f"SLURM_JOB_ID={job_id}\0".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # ended at this moment
            continue
    return found


def kill_script(job_id):
    """End the script of a job at once, so that it cleans up nothing."""
    mark = f"SLURM_JOB_ID={job_id}\0".encode()
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (
                mark in (path / "environ").read_bytes()
                and b"slurm_script" in (path / "cmdline").read_bytes()
            ):
                os.kill(int(path.name), signal.SIGKILL)


def threads_of_workers(job_id):
    """Return the variables that set torch's threads in the workers."""
    mark, said = f"SLURM_JOB_ID={job_id}\0".encode(), set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environ, command = (path / "environ").read_bytes(), (path / "cmdline").read_bytes()
        except OSError:  # ended at this moment
            continue
        if mark in environ and b"spawn_main" in command:
            said.update(re.findall(r"\0MKL_NUM_THREADS=(\w+)", environ.decode()))
    return said


@pytest.fixture(autouse=True)
def _no_job_is_left(slurm):
    yield
    slurm.wait_until_empty(timeout_s=PATIENCE_S)


def test_the_unchanged_script_gives_the_local_volume():
    said = slurm_says(
        "sbatch", "--parsable", "--cpus-per-task=2", "--mem=4G", "--output=as-it-is.log",
        str(TEMPLATE), "in.zarr", "as it is.zarr", *OPTIONS,
    )  # fmt: skip
    until(lambda: threads_of_workers(said.strip()) == {"2"})
    known = ended(said.strip())
    assert (known["JobState"], known["ExitCode"]) == ("COMPLETED", "0:0"), Path(
        "as-it-is.log"
    ).read_text()
    assert is_the_local_volume("as it is.zarr")
    assert list(Path.cwd().glob("overtile-*")) == [], "its private folder is left"


def test_simulated_gpus_give_the_local_volume(monkeypatch):
    monkeypatch.setenv(PRETEND, "1")
    job_id = overtile("submit", "segment", "in.zarr", "gpu.zarr", *OPTIONS, "--cluster", "gpu")
    known = ended(job_id.strip())
    assert known["ExitCode"] == "0:0", log_of(job_id.strip())
    assert is_the_local_volume("gpu.zarr")


def test_missing_gpus_fail_instead_of_using_the_cpu():
    job_id = overtile(
        "submit", "segment", "in.zarr", "none.zarr", *OPTIONS, "--cluster", "gpu"
    ).strip()
    assert ended(job_id)["ExitCode"] == "1:0"
    assert "all workers have ended" in log_of(job_id)
    assert not Path("none.zarr").exists()


def test_a_job_that_drained_and_was_requeued_gives_the_local_volume():
    job_id = overtile(
        "submit", "segment", "in.zarr", "requeued.zarr", *OPTIONS, "--cluster", "hpc",
        "--overwrite",
    ).strip()  # fmt: skip
    drain_and_hasten(job_id, when=lambda: is_begun("requeued.zarr"))
    known = ended(job_id)
    assert (known["ExitCode"], known["Restarts"]) == ("0:0", "1"), log_of(job_id)
    done, blocks = map(int, re.search(r"drained: (\d+) of (\d+) blocks", log_of(job_id)).groups())
    assert 0 < done < blocks
    assert f"resuming: {done} of {blocks} blocks are done already" in log_of(job_id)
    assert is_the_local_volume("requeued.zarr")


def test_an_array_of_shares_with_one_requeued_and_its_last_job_give_the_local_volume():
    array, finish = overtile(
        "submit", "segment", "in.zarr", "shares.zarr", *OPTIONS, "--cluster", "hpc", "--shard", "3"
    ).split()
    tasks = [f"{array}_{number}" for number in range(1, 4)]
    until(lambda: len({job(task)["JobId"] for task in tasks}) == 3)  # one job while it waits
    (first,) = [task for task in tasks if job(task)["JobId"] == array]  # its id means all three
    share = f"shards/{tasks.index(first) + 1}"
    drain_and_hasten(first, when=lambda: is_begun("shares.zarr", share))
    known = {task: ended(task) for task in tasks}
    assert {task: one["Restarts"] for task, one in known.items()} == {
        task: "1" if task == first else "0" for task in tasks
    }
    assert {one["ExitCode"] for one in known.values()} == {"0:0"}
    assert ended(finish)["ExitCode"] == "0:0", log_of(finish)
    assert is_the_local_volume("shares.zarr")
    told = json.loads(overtile("status", "shares.zarr", "--json"))
    assert [share["shard"] for share in told["shares"]] == ["1/3", "2/3", "3/3"]
    assert sum(share["done"] for share in told["shares"]) == told["blocks"] == BLOCKS


def test_objects_in_shares_are_labelled_merged_written_and_completed_by_jobs_in_turn():
    options = ("--block", "8,24,32", "--threshold", "0.5")
    find_objects("in.zarr", "alone.zarr", block=(8, 24, 32), threshold=0.5)
    label, merge, write, last = overtile(
        "submit", "objects", "in.zarr", "objects.zarr", *options, "--cluster", "hpc",
        "--shard", "2",
    ).split()  # fmt: skip
    assert ended(last)["ExitCode"] == "0:0", log_of(last)
    said = {name: log_of(name) for name in (f"{label}_1", merge, f"{write}_2", last)}
    for name, words in zip(said, ("1/2 labelled", "objects in 64", "2/2 written", "done: "),
                           strict=True):  # fmt: skip
        assert words in said[name], said[name]
    for part in ("labels", "tables"):
        written = {path.relative_to("objects.zarr"): path.read_bytes()
                   for path in Path("objects.zarr", part).rglob("*") if path.is_file()}  # fmt: skip
        assert len(written) > 2 * (part == "labels")
        assert all(Path("alone.zarr", name).read_bytes() == one for name, one in written.items())


def test_keys_of_a_job_are_private_and_those_of_a_killed_one_are_removed_by_the_next(
    strangers, first_byte
):
    job_id = overtile(
        "submit", "segment", "in.zarr", "killed.zarr", *OPTIONS, "--cluster", "hpc"
    ).strip()
    until(lambda: is_begun("killed.zarr"), said=lambda: log_of(job_id))
    (key,) = Path(LOGS).glob(f"overtile-{job_id}-*/tls-*/key.pem")
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in key.parent.iterdir()} == {0o600}
    address = json.loads((key.parents[1] / "scheduler.json").read_text())["address"]
    assert address.startswith("tls://")
    for who, stranger in strangers.items():
        assert first_byte(int(address.rpartition(":")[2]), stranger) == b"", who
    secret = key.read_text().splitlines()[1]
    assert not [words for words in processes_of(job_id) if secret in words]
    kill_script(job_id)
    ended(job_id)
    assert key.is_file(), "it could not remove its keys"
    killed_at = time.monotonic()
    until(lambda: not processes_of(job_id), said=lambda: str(processes_of(job_id)))
    assert time.monotonic() - killed_at < 60, "its processes outlive it"
    next_id = overtile(
        "submit", "segment", "in.zarr", "killed.zarr", *OPTIONS, "--cluster", "hpc"
    ).strip()
    assert ended(next_id)["ExitCode"] == "0:0", log_of(next_id)
    assert is_the_local_volume("killed.zarr")
    assert not list(Path(LOGS).glob("overtile-*/tls-*"))
    assert not [path for path in Path(LOGS).rglob("*.log") if secret in path.read_text()]


def test_the_last_job_is_cancelled_if_a_share_fails():
    shutil.copytree("in.zarr", "short.zarr")
    array, finish = overtile(
        "submit", "segment", "short.zarr", "failed.zarr", *OPTIONS, "--cluster", "hpc", "--shard",
        "2",
    ).split()  # fmt: skip
    shutil.rmtree("short.zarr")
    assert {ended(f"{array}_{number}")["ExitCode"] for number in range(1, 3)} == {"2:0"}
    assert ended(finish)["JobState"] == "CANCELLED"


def test_the_runs_exit_code_is_the_jobs():
    said = slurm_says(
        "sbatch", "--parsable", "--cpus-per-task=1", "--mem=2G", "--output=bad.log",
        str(TEMPLATE), "gone.zarr", "bad.zarr", *OPTIONS,
    )  # fmt: skip
    assert ended(said.strip())["ExitCode"] == "2:0"
    assert "gone.zarr does not exist" in Path("bad.log").read_text()


def test_a_walltime_that_is_too_short_for_a_block_is_not_requeued_forever():
    job_id = overtile(
        "submit", "segment", "in.zarr", "never.zarr", *OPTIONS, "--cluster", "hpc"
    ).strip()
    until(lambda: job(job_id)["JobState"] == "RUNNING")
    until(lambda: any("scheduler-file" in line for line in processes_of(job_id)))
    slurm_says("scancel", "--batch", "--signal=USR1", job_id)
    known = ended(job_id)
    assert (known["ExitCode"], known["Restarts"]) == ("1:0", "0"), log_of(job_id)
    assert "no block finished within the walltime: request a longer walltime" in log_of(job_id)


def test_a_cancelled_job_leaves_no_process(slurm):
    job_id = overtile(
        "submit", "segment", "in.zarr", "cancelled.zarr", *OPTIONS, "--cluster", "hpc"
    ).strip()
    until(lambda: is_begun("cancelled.zarr"), said=lambda: log_of(job_id))
    assert len(processes_of(job_id)) >= 4  # script, scheduler, worker, client
    slurm_says("scancel", job_id)
    start = time.monotonic()
    until(lambda: not processes_of(job_id) and slurm.queue() == [])
    assert time.monotonic() - start < 60
    assert json.loads(overtile("status", "cancelled.zarr", "--json"))["done"] > 0


def test_an_unknown_partition_is_reported_in_one_line_and_no_job_is_left(slurm):
    error = overtile(
        "submit", "segment", "in.zarr", "nope.zarr", *OPTIONS, "--cluster", "nope", code=2
    )
    assert re.fullmatch(r"overtile: sbatch failed: .*partition.*\n", error)
    assert slurm.queue() == []
