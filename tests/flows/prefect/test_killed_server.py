"""Prefect's server or worker is killed or stopped in mid-run: the run ends, and nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import time

import numpy as np
import psutil
import pytest
import zarr

from faults.record import Recorded
from faults.reference import Moment
from faults.small import tensors

pytestmark = pytest.mark.faults
SEED = os.environ.setdefault("FAULT_SEED", str(random.SystemRandom().getrandbits(32)))
BLOCKS, STEPS = 240, 400
STOPPED_S = 40.0
"""Longer than the heartbeat of a flow run (30 s in these tests) and than requests are retried."""
HOWS = {"killed": signal.SIGKILL, "terminated": signal.SIGTERM, "stopped": signal.SIGSTOP}


@pytest.fixture
def segmentation(tmp_path, textured, weights):
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


@pytest.fixture
def training(tmp_path, textured):
    """Return the parameters of a training, and its output."""
    raw = textured((3, 32, 36))
    zarr.create_array(tmp_path / "raw.zarr", data=raw, chunks=(1, 16, 18))
    zarr.create_array(tmp_path / "labels.zarr", data=(raw > 128).astype("u1"), chunks=(1, 32, 36))
    (tmp_path / "config.toml").write_text(
        "[network]\nbase_channels = 2\nlevels = 2\n"
        '[training]\npatch = [12, 12]\nprecision = "fp32"\ncheckpoint_every = 10\n'
        "augment = { elastic_sigma = 1.0 }"
    )
    pair = {"volume": str(tmp_path / "raw.zarr"), "labels": str(tmp_path / "labels.zarr")}
    output = tmp_path / "w.safetensors"
    return {
        "volumes": [pair], "out": str(output),
        "options": {"config": str(tmp_path / "config.toml"), "resume": True, "steps": STEPS},
    }, output  # fmt: skip


def done_in(output):
    try:
        return int((np.asarray(zarr.open_array(output / "run/done", mode="r")[...]) == 1).sum())
    except (OSError, ValueError, KeyError, RuntimeError):  # it does not exist yet
        return 0


def steps_in(output):
    """Return the step of the newest checkpoint of a training."""
    names = [path.stem for path in output.with_suffix(".training").glob("checkpoint-*")]
    return max((int(name.rpartition("-")[2]) for name in names), default=0)


def stored(output):
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in output.rglob("*")
        if path.is_file() and path.relative_to(output).parts[0] != "run"
    }


class Fault:
    """What happens to a part of Prefect once a share of the work is done."""

    def __init__(self, name, how, part, front, waiting):
        self.how, self.part, self.front, self.waiting = how, part, front, waiting
        generator = random.Random(f"{SEED}/{name}")
        self.share = generator.uniform(0.05, 0.7)
        self.began = time.monotonic()

    def strike(self, flow_run, reached):
        """Let it happen; return once Prefect is up again."""
        done = lambda: reached() or self.front.flow_run(flow_run).state.is_final()  # noqa: E731
        self.waiting(done, what=f"{self.share:.0%} of the work")
        assert not self.front.flow_run(flow_run).state.is_final(), "the run ended before"
        (lost, *_) = self.front.processes(self.part)
        lost.send_signal(HOWS[self.how])
        if self.how == "stopped":
            time.sleep(STOPPED_S)
            lost.send_signal(signal.SIGCONT)
        else:
            psutil.wait_procs([lost], timeout=60)
        code, told = self.front.overtile("prefect", "up")
        assert code == 0, told

    def record(self, command):
        Recorded(
            family="prefect", fault=f"Prefect's {self.part} {self.how}", command=command,
            seed=SEED, seconds=round(time.monotonic() - self.began, 1),
            moment=Moment("time", self.share).third,
        ).append()  # fmt: skip


@pytest.fixture(params=["server", "worker"])
def part(request):
    return request.param


@pytest.fixture(params=HOWS)
def fault(request, part, front, waiting):
    print(f"FAULT_SEED={SEED}")
    return Fault(request.node.name, request.param, part, front, waiting)


def test_a_segmentation_ends_or_resumes_after_prefect_was_lost(fault, front, segmentation):
    parameters, output = segmentation
    flow_run = front.run("segment-volume", **parameters)
    fault.strike(flow_run, lambda: done_in(output) >= fault.share * BLOCKS)
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
    fault.record("segment")


def test_a_training_ends_or_resumes_after_prefect_was_lost(fault, front, training):
    parameters, output = training
    flow_run = front.run("train-unet", **parameters)
    fault.strike(flow_run, lambda: steps_in(output) >= fault.share * STEPS)
    state = front.ended(flow_run)
    if not state.is_completed():
        assert front.ended(front.run("train-unet", **parameters)).is_completed()
    shell = output.with_name("shell.safetensors")
    pair = parameters["volumes"][0]
    code, told = front.overtile(
        "train", "--volume", pair["volume"], "--labels", pair["labels"], "--out", shell,
        "--config", parameters["options"]["config"], "--steps", STEPS,
    )  # fmt: skip
    assert code == 0, told
    assert tensors(output) == tensors(shell)
    fault.record("train")
