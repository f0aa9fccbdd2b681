"""Runs that are cancelled, retried, or lost with their worker. Minutes long: make test-slow."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import zarr

pytestmark = pytest.mark.slow

AUTOMATION = Path(__file__).parents[3] / "deploy/lost-runs.automation.yaml"
BLOCKS = 12
WITHIN_S = 65
"""Instead of 180 s, with a heartbeat every 30 s instead of 60."""


@pytest.fixture
def job(tmp_path, textured, weights):
    """Return the parameters of a run of twelve blocks, one slice each, and its output."""
    zarr.create_array(
        tmp_path / "in.zarr", data=textured((BLOCKS, 64, 64)), chunks=(1, 32, 32),
        dimension_names=["z", "y", "x"],
    )  # fmt: skip
    output = tmp_path / "out.zarr"
    return {
        "input": str(tmp_path / "in.zarr"), "output": str(output), "weights": weights("2d"),
        "options": {"block": [1, 64, 64], "retries": 0}, "cluster": {"workers": 1},
    }, output  # fmt: skip


class Held:
    """A slice whose reading blocks until it is released."""

    def __init__(self, volume, z):
        (self.chunk,) = Path(volume).glob(f"c/{z}/0/0")
        self.stored = self.chunk.read_bytes()
        self.chunk.unlink()
        os.mkfifo(self.chunk)

    def let_go(self):
        self.chunk.unlink()
        self.chunk.write_bytes(self.stored)


def done_in(output):
    try:
        return np.flatnonzero(zarr.open_array(output / "run/done", mode="r")[...] == 1).tolist()
    except (OSError, ValueError, KeyError, RuntimeError):  # not there yet, or being written
        return []


def written(output):
    return {
        path: path.stat().st_mtime_ns
        for path in (output / "labels/classes/0/c").rglob("*")
        if path.is_file()
    }


def broken(volume, z):
    """Make a slice unreadable; return the function that repairs it."""
    (chunk,) = Path(volume).glob(f"c/{z}/0/0")
    stored = chunk.read_bytes()
    chunk.write_bytes(b"no chunk")
    return lambda: chunk.write_bytes(stored)


def test_retrying_a_failed_run_computes_the_missing_blocks_only(front, waiting, job):
    parameters, output = job
    mend = broken(parameters["input"], 7)
    flow_run = front.run("segment-volume", **parameters)
    assert front.ended(flow_run).is_failed()
    begun = done_in(output)
    assert begun == [z for z in range(BLOCKS) if z != 7]
    before = written(output)
    mend()
    front.done("prefect flow-run retry", flow_run)
    waiting(lambda: front.flow_run(flow_run).state.is_completed(), what="the retry")
    assert done_in(output) == list(range(BLOCKS))
    assert before.items() < written(output).items(), "what was done is not done again"


def test_a_new_run_with_the_same_parameters_resumes_a_cancelled_one(front, waiting, job):
    parameters, output = job
    held = Held(parameters["input"], BLOCKS - 1)
    flow_run = front.run("segment-volume", **parameters)
    waiting(lambda: len(done_in(output)) == BLOCKS - 1, what="all blocks that can be done")
    at_work = front.processes("worker")[1:]
    assert len(at_work) >= 2, "the flow run, and a Dask worker"
    front.done("prefect flow-run cancel", flow_run)
    assert front.ended(flow_run).is_cancelled()
    _, alive = psutil.wait_procs(at_work, timeout=15)
    assert alive == []
    before = written(output)
    held.let_go()
    assert front.ended(front.run("segment-volume", **parameters)).is_completed()
    assert done_in(output) == list(range(BLOCKS))
    assert before.items() < written(output).items(), "what was done is not done again"


def test_a_run_lost_with_its_worker_is_marked_crashed_and_a_new_one_resumes(front, waiting, job):
    parameters, output = job
    text = AUTOMATION.read_text()
    assert "within: 180" in text
    (front.project / "quick.yaml").write_text(text.replace("within: 180", f"within: {WITHIN_S}"))
    front.done("prefect automation delete overtile-lost-runs")
    front.done("prefect automation create --from-file quick.yaml")

    held = Held(parameters["input"], BLOCKS - 1)
    often = '{"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}'
    flow_run = front.run("segment-volume", "--job-variable", f"env={often}", **parameters)
    waiting(lambda: len(done_in(output)) == BLOCKS - 1, what="all blocks that can be done")
    began = time.time()
    waiting(lambda: time.time() - began > 1.3 * WITHIN_S, what="what a run without heartbeats has")
    assert front.flow_run(flow_run).state.is_running(), "it has heartbeats"
    lost = front.processes("worker")
    for process in lost:
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs(lost, timeout=15)
    assert front.flow_run(flow_run).state.is_running(), "nobody knows yet"
    waiting(lambda: front.flow_run(flow_run).state.is_final(), what="the automation")
    state = front.flow_run(flow_run).state
    assert state.is_crashed()
    assert state.message.startswith("No heartbeat for three minutes.")

    before = written(output)
    held.let_go()
    code, told = front.overtile("prefect", "up")
    assert code == 0, told
    assert "worker: started" in told
    assert front.ended(front.run("segment-volume", **parameters)).is_completed()
    assert before.items() < written(output).items(), "what was done is not done again"
