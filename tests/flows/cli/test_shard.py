"""``--shard i/N``, ``overtile finish`` and SIGUSR1, as batch scripts use them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import zarr

from pipeline import segment_volume
from pipeline.base.location import Location
from pipeline.ledger.progress import read_progress
from unet import UNetPredictor

SHAPE, BLOCK, BLOCKS = (8, 48, 300), (4, 16, 16), 114
PARTS = (40, 36, 38)
ENOUGH = 4
"""Number of done blocks when a share is killed or drained."""


@pytest.fixture(scope="module")
def source(textured, tmp_path_factory):
    path = tmp_path_factory.mktemp("cli-shards") / "in.zarr"
    zarr.create_array(path, data=textured(SHAPE), chunks=(8, 16, 64))
    return path


@pytest.fixture(scope="module")
def command(weights, source):
    """Return a function that returns the shell's arguments for a command and an output."""

    def make(name, out, *more):
        return [
            name, str(source), str(out), "--weights", weights("3d"), "--precision", "fp32",
            "--block", "4,16,16", "--outputs", "classes,scores", "--normalisation", "percentile",
            *more,
        ]  # fmt: skip

    return make


def stored_bytes(out):
    """Return the content of every file of every array, without the ledger, which contains times."""
    files = (path for path in out.rglob("*") if path.is_file() and path.suffix != ".partial")
    named = {str(path.relative_to(out)): path for path in files}
    return {name: p.read_bytes() for name, p in named.items() if not name.startswith("run/")}


def done(out, number):
    """Return the blocks that a share has recorded."""
    try:
        states = zarr.open_array(out / f"run/shards/{number}/done", mode="r")[...]
    except (FileNotFoundError, KeyError):
        return set()
    return {tuple(index) for index in np.argwhere(states == 1).tolist()}


def shards_of(out, blocks):
    """Return inode and time of the shards of some blocks: writing again changes both."""
    paths = [out / f"labels/classes/0/c/{z}/{y}/{x}" for z, y, x in blocks]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def wait_until(true, *runs):
    began = time.monotonic()
    while not true():
        for run in runs:
            assert run.poll() is None
        assert time.monotonic() - began < 200
        time.sleep(0.01)


@pytest.mark.slow
def test_three_concurrent_processes_one_killed_one_drained_equal_one_run(
    command, commands, shell, one_worker, source, weights, tmp_path
):
    out = tmp_path / "out.zarr"
    shares = {
        n: commands.start(command("segment", out, "--shard", f"{n}/3", "--workers", "1"))
        for n in (1, 2, 3)
    }
    left = {2: signal.SIGKILL, 3: signal.SIGUSR1}
    while left:  # whichever is first: the other one would come to its end meanwhile
        wait_until(lambda: any(len(done(out, n)) >= ENOUGH for n in left), *map(shares.get, left))
        for number in [n for n in left if len(done(out, n)) >= ENOUGH]:
            os.killpg(shares[number].pid, left.pop(number))  # its workers too, as Slurm does
    ended = {number: share.ended(within_s=400) for number, share in shares.items()}
    assert [ended[n].code for n in (1, 2, 3)] == [0, -signal.SIGKILL, 75], ended
    kept = {number: done(out, number) for number in (1, 2, 3)}
    assert f"drained: {len(kept[3])} of 38 blocks are done" in ended[3].last_line
    assert [s.done for s in read_progress(Location.parse(out))] == [40, len(kept[2]), len(kept[3])]
    assert ENOUGH <= len(kept[2]) < PARTS[1]
    assert ENOUGH <= len(kept[3]) < PARTS[2]

    code, _, said = shell(*command("finish", out))
    assert code == 1
    (line,) = said.splitlines()
    for number in (2, 3):
        lacking, of = PARTS[number - 1] - len(kept[number]), PARTS[number - 1]
        assert f"shard {number}/3 misses {lacking} of {of} blocks" in line
        assert re.search(rf"overtile segment \S+in.zarr \S+out.zarr .*--shard {number}/3", line)
    assert "shard 1/3" not in line
    code, planned, said = shell(*command("plan", out))
    assert (code, planned) == (2, "")
    assert "overtile finish" in said

    before = shards_of(out, set.union(*kept.values()))
    where = ("--cluster", one_worker.scheduler.address)  # the same voxels, wherever
    for number in (2, 3):
        code, _, said = shell(*command("segment", out, "--shard", f"{number}/3", *where))
        assert code == 0, said
        assert f"{len(kept[number])} by earlier runs" in said
    for name in ("finish", "segment"):
        code, _, said = shell(*command(name, out, *where))
        assert code == 0, said
        assert f"done: {BLOCKS} blocks, all by earlier runs" in said
    assert shards_of(out, set.union(*kept.values())) == before

    predictor = UNetPredictor(weights("3d"), precision="fp32", device="cpu")
    segment_volume(
        str(source), str(tmp_path / "one.zarr"), predictor, client=one_worker, block=BLOCK,
        outputs=("classes", "scores"), normalisation={"kind": "percentile"},
    )  # fmt: skip
    one, many = stored_bytes(tmp_path / "one.zarr"), stored_bytes(out)
    assert {"1/zarr.json", "labels/classes/1/zarr.json"} <= set(one)
    assert set(many) == set(one)
    assert [name for name, content in one.items() if many[name] != content] == []


def takes_the_signal(run):
    """Return whether a process has blocked SIGUSR1, so that it can wait for it."""
    with open(f"/proc/{run.pid}/status") as status:
        blocked = next(line for line in status if line.startswith("SigBlk"))
    return int(blocked.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1


in_linux = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads Linux's /proc")


def check_nothing_is_left(code, said, processes, out):
    assert code == 75, said
    assert said.splitlines()[-1].startswith("overtile: drained before the first block")
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []
    assert not out.exists()


@in_linux
def test_sigusr1_during_the_imports_exits_75_and_leaves_nothing(command, tmp_path):
    out = tmp_path / "out.zarr"
    words = command("segment", out, "--shard", "1/3", "--workers", "1")
    run = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *words],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    wait_until(lambda: takes_the_signal(run), run)
    processes = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(signal.SIGUSR1)
    _, said = run.communicate(timeout=60)
    check_nothing_is_left(run.returncode, said, processes, out)


@in_linux
def test_sigusr1_while_the_cluster_starts_exits_75_and_leaves_nothing(command, commands, tmp_path):
    out = tmp_path / "out.zarr"
    run = commands.start(command("segment", out, "--shard", "1/3", "--workers", "1"))
    wait_until(lambda: takes_the_signal(run) and psutil.Process(run.pid).children(), run)
    processes = psutil.Process(run.pid).children(recursive=True)
    run.signal(signal.SIGUSR1)
    ended = run.ended(within_s=60)
    check_nothing_is_left(ended.code, ended.text, processes, out)


def test_the_help_describes_exit_code_75_shards_and_finish(shell):
    _, everything, _ = shell("--help")
    assert "75 stopped early by SIGUSR1" in " ".join(everything.split())
    assert "finish" in everything
    assert "--shard i/N" in shell("segment", "--help")[1]
    code, finish, _ = shell("finish", "--help")
    assert code == 0
    assert "--cluster" in finish
    assert "--shard i/N" in " ".join(finish.split())
    assert "--overwrite" not in finish


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["segment", "--shard", "4/3"], r"--shard '4/3': expected i/N"),
        (["segment", "--shard", "1/3", "--overwrite"], r"each share would delete"),
        (["segment", "--shard", "1/90"], r"has 20 regions .*; use at most 20 shares"),
        (["finish"], r"has nothing to finish: first run its shares"),
    ],
)
def test_an_invalid_share_is_one_line_exit_2_and_nothing_written(
    more, line, shell, source, weights, tmp_path
):
    out = tmp_path / "out.zarr"
    name, *options = more
    code, _, said = shell(
        name, str(source), str(out), "--weights", weights("3d"), "--block", "4,16,16", *options
    )
    assert code == 2
    assert re.search(line, said)
    assert len(said.splitlines()) == 1
    assert not out.exists()


def test_finish_advises_no_option_that_it_lacks(shell, source, weights, tmp_path):
    zarr.create_array(tmp_path / "theirs.zarr", shape=(4, 4, 4), dtype="u1")
    theirs = str(tmp_path / "theirs.zarr")
    code, _, said = shell("finish", str(source), theirs, "--weights", weights("3d"))
    assert code == 2
    assert "was not made by overtile: pass the output and the arguments of the runs of" in said
    assert "--overwrite" not in said


def test_a_plan_states_the_blocks_of_a_share(shell, source, weights, tmp_path):
    base = ["plan", str(source), str(tmp_path / "o.zarr"), "--weights", weights("3d"),
            "--block", "4,16,16", "--shard", "2/3"]  # fmt: skip
    assert "shard 2/3 computes 36 of these blocks" in shell(*base)[1]
    assert '"share": {' in shell(*base, "--json")[1]
