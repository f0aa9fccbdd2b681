"""Law 7: a run that is killed at any time loses no voxel, and recomputes no finished block."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
import zarr

from pipeline import segment_volume
from unet import UNetPredictor

SHAPE, BLOCK = (8, 32, 300), (4, 16, 16)
GRID = (2, 2, 19)
BLOCKS = 2 * 2 * 19
ENOUGH = 12
"""Number of done blocks when a run is killed: some, and far from all."""


@pytest.fixture(scope="module")
def source(textured, tmp_path_factory):
    path = tmp_path_factory.mktemp("killed") / "in.zarr"
    zarr.create_array(path, data=textured(SHAPE), chunks=(8, 16, 64))
    return path


@pytest.fixture(scope="module")
def words(weights, source):
    """Return a function that returns the words of the command for an output."""

    def make(out):
        return [
            "segment", str(source), str(out), "--weights", weights("3d"), "--workers", "2",
            "--precision", "fp32", "--block", ",".join(map(str, BLOCK)),
            "--outputs", "classes,scores", "--scores-dtype", "float32",
        ]  # fmt: skip

    return make


@pytest.fixture(scope="module")
def start(words, commands):
    """Return a function that starts the command for an output."""
    return lambda out: commands.start(words(out))


@pytest.fixture(scope="module")
def undisturbed(weights, source, one_worker, tmp_path_factory):
    """Return every stored array, byte by byte, of an undisturbed run on another cluster."""
    out = tmp_path_factory.mktemp("undisturbed") / "out.zarr"
    predictor = UNetPredictor(weights("3d"), precision="fp32")
    segment_volume(
        str(source), str(out), predictor, client=one_worker, block=BLOCK,
        outputs=("classes", "scores"), scores_dtype="float32",
    )  # fmt: skip
    files = stored_bytes(out)
    assert {"0/zarr.json", "1/zarr.json", "labels/classes/1/zarr.json"} <= set(files)
    return files


def stored_bytes(out):
    """Return the content of every file of every array, without the ledger, which contains times."""
    files = (path for path in out.rglob("*") if path.is_file() and path.suffix != ".partial")
    named = {str(path.relative_to(out)): path for path in files}
    return {name: p.read_bytes() for name, p in named.items() if not name.startswith("run/")}


def done(out):
    """Return the done blocks in the ledger of an output; none without a ledger."""
    try:
        return np.asarray(zarr.open_array(out / "run/done", mode="r")[...]) == 1
    except (FileNotFoundError, KeyError):
        return np.zeros(GRID, bool)


def voxels(blocks):
    """Return the number of voxels of some blocks; blocks at the volume's end are smaller."""
    return sum(4 * 16 * min(16, SHAPE[2] - 16 * x) for _, _, x in np.argwhere(blocks).tolist())


def shards_of(out, blocks):
    """Return inode and time of the shards of some blocks: writing again changes both."""
    paths = []
    for z, y, x in np.argwhere(blocks):
        paths += [out / f"0/c/0/{z}/{y}/{x}", out / f"labels/classes/0/c/{z}/{y}/{x}"]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


@contextmanager
def at_work(start, out):
    """Yield a run whose ledger shows some blocks but not all, and every process that it has."""
    run = start(out)
    try:
        while done(out).sum() < ENOUGH:
            assert run.poll() is None, run.text
            assert run.seconds < 200, "no blocks were done"
            time.sleep(0.02)
        yield run, psutil.Process(run.pid).children(recursive=True)
    finally:
        run.kill()


def still_running(processes, *, within_s):
    """Return the processes that have not ended in time; a zombie has ended."""
    deadline = time.monotonic() + within_s
    while running := [p for p in processes if is_running(p)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return running


def is_running(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def finish(start, out, undisturbed):
    """Run the command again, to its end; finished blocks stay unchanged."""
    finished_before = done(out)
    assert ENOUGH <= finished_before.sum() < BLOCKS
    shards = shards_of(out, finished_before)
    again = start(out).ended(within_s=300)
    assert again.code == 0, again.text
    assert shards_of(out, finished_before) == shards
    told = re.search(rf"done: {BLOCKS} blocks, (\d+) by earlier runs; ([\d,]+) voxels", again.text)
    assert int(told[1]) == finished_before.sum()
    assert int(told[2].replace(",", "")) == voxels(~finished_before)
    assert f"resuming: {finished_before.sum()} of {BLOCKS} blocks" in again.text
    assert stored_bytes(out) == undisturbed


def test_a_run_killed_between_blocks_gives_the_same_bytes_and_computes_no_finished_block_again(
    start, undisturbed, tmp_path
):
    out = tmp_path / "out.zarr"
    with at_work(start, out) as (run, processes):
        run.signal(signal.SIGKILL)
        assert still_running(processes, within_s=30) == [], "workers outlive a driver that died"
    finish(start, out, undisturbed)


@pytest.mark.slow
def test_a_killed_worker_costs_no_voxel(start, undisturbed, tmp_path):
    out = tmp_path / "out.zarr"
    with at_work(start, out) as (run, _):
        victim, *others = map(psutil.Process, run.workers())
        assert others
        victim.kill()
        ended = run.ended(within_s=300)
        assert ended.code == 0, ended.text
        assert still_running([victim, *others], within_s=10) == []
    assert stored_bytes(out) == undisturbed


@pytest.mark.slow
def test_a_run_that_slept_while_another_one_finished_ends_in_one_line_and_changes_nothing(
    start, undisturbed, tmp_path
):
    out = tmp_path / "out.zarr"
    with at_work(start, out) as (run, _):
        os.killpg(run.pid, signal.SIGSTOP)
        again = start(out).ended(within_s=300)
        assert again.code == 0, again.text
        assert stored_bytes(out) == undisturbed
        os.killpg(run.pid, signal.SIGCONT)
        ended = run.ended(within_s=420)
        assert ended.code == 1
        assert ended.last_line.endswith(f"another run has taken over {out}: this one ends")
        assert stored_bytes(out) == undisturbed


@pytest.mark.parametrize(
    ("how", "whom"),
    [
        pytest.param(signal.SIGTERM, os.kill, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, os.kill, marks=pytest.mark.slow),
        (signal.SIGINT, os.killpg),
    ],
    ids=["SIGTERM", "SIGINT", "Ctrl-C in a terminal"],
)
def test_a_stopped_run_prints_one_line_leaves_no_process_and_resumes(
    how, whom, start, undisturbed, tmp_path
):
    out = tmp_path / "out.zarr"
    with at_work(start, out) as (run, processes):
        whom(run.pid, how)
        ended = run.ended(within_s=run.seconds + 30)
        assert ended.code == 1
        assert still_running(processes, within_s=10) == []
    *before, last = ended.text.splitlines()
    assert last.startswith("overtile: stopped; ")
    assert "again" in last
    told = re.compile(r"input: |voxel size: |segmenting |note: |dashboard: |\d+/\d+ blocks")
    assert [line for line in before if not told.match(line)] == []
    finish(start, out, undisturbed)


@pytest.mark.parametrize(
    "after_s",
    [pytest.param(0.2, marks=pytest.mark.slow), 1.0, pytest.param(2.0, marks=pytest.mark.slow)],
)
def test_ctrl_c_while_workers_start_prints_one_line_and_leaves_no_process(after_s, words, tmp_path):
    command = [sys.executable, "-m", "flows.cli", *words(tmp_path / "out.zarr")]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not psutil.Process(run.pid).children():  # the first one: the cluster is being started
        assert run.poll() is None, run.communicate()[1]
        time.sleep(0.02)
    time.sleep(after_s)
    processes = psutil.Process(run.pid).children(recursive=True)
    os.killpg(run.pid, signal.SIGINT)
    _, said = run.communicate(timeout=30)
    assert run.returncode == 1
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("overtile: stopped")  # before or after its imports
    assert still_running(processes, within_s=10) == []
