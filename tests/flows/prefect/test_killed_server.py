"""Prefect's server or worker is killed during a run: the run ends, and the volume is complete."""

from __future__ import annotations

import signal

import numpy as np
import psutil
import pytest
import zarr

pytestmark = pytest.mark.faults
BLOCKS, SOME = 240, 12
HOWS = {"killed": signal.SIGKILL, "terminated": signal.SIGTERM}


@pytest.fixture
def job(tmp_path, textured, weights):
    """Return the parameters of a run of many blocks, one slice each, and its output."""
    zarr.create_array(
        tmp_path / "in.zarr", data=textured((BLOCKS, 64, 64)), chunks=(1, 32, 32),
        dimension_names=["z", "y", "x"],
    )  # fmt: skip
    output = tmp_path / "out.zarr"
    return {
        "input": str(tmp_path / "in.zarr"), "output": str(output), "weights": weights("2d"),
        "options": {"block": [1, 64, 64]}, "cluster": {"workers": 1},
    }, output  # fmt: skip


def done_in(output):
    try:
        return int((np.asarray(zarr.open_array(output / "run/done", mode="r")[...]) == 1).sum())
    except (OSError, ValueError, KeyError, RuntimeError):  # it does not exist yet
        return 0


def stored(output):
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in output.rglob("*")
        if path.is_file() and path.relative_to(output).parts[0] != "run"
    }


@pytest.mark.parametrize("part", ["server", "worker"])
@pytest.mark.parametrize("how", HOWS)
def test_a_run_ends_or_resumes_after_prefect_was_lost(how, part, front, waiting, job):
    parameters, output = job
    flow_run = front.run("segment-volume", **parameters)
    waiting(lambda: done_in(output) >= SOME, what="some blocks")
    lost = front.processes(part)[0]
    lost.send_signal(HOWS[how])
    psutil.wait_procs([lost], timeout=60)
    code, told = front.overtile("prefect", "up")
    assert code == 0, told
    state = front.ended(flow_run)
    if not state.is_completed():
        assert front.ended(front.run("segment-volume", **parameters)).is_completed()
    shell = output.with_name("shell.zarr")
    code, told = front.overtile(
        "segment", parameters["input"], shell, "--weights", parameters["weights"],
        "--block", "1,64,64", "--workers", "1",
    )  # fmt: skip
    assert code == 0, told
    assert stored(output) == stored(shell)
