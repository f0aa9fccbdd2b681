"""On a real one-node Slurm: a submitted training that is drained and requeued gives the same bits.

Minutes long: make test-slurm.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import zarr

from flows.options.train import LabelledVolume, TrainOptions
from flows.training.prepare import prepare_training
from unet import load_weights
from unet.training.checkpoint import newest_checkpoint
from unet.training.loop import train
from unet.training.ranks import Alone
from unet.training.run import write_weights

pytestmark = pytest.mark.slurm

PATIENCE_S = 400.0
STEPS = 2500
CONFIG = f"""
[network]
dims = 2
base_channels = 2
levels = 2
[training]
steps = {STEPS}
patch = [12, 12]
batch = 2
precision = "fp32"
validate_every = 1000
checkpoint_every = 50
[training.augment]
elastic_sigma = 1.0
"""


@pytest.fixture(scope="module")
def place(slurm, tmp_path_factory, textured):
    """Return the current folder, with a labelled volume, a config and profiles."""
    folder = tmp_path_factory.mktemp("train") / "ada's $volumes"
    profiles = folder / "config/overtile"
    profiles.mkdir(parents=True)
    logs = f"log_directory = {json.dumps(str(folder / 'logs'))}\n"
    (profiles / "one.toml").write_text(slurm.profile + logs)
    two = slurm.profile.replace("cpus_per_job = 1", "cpus_per_job = 2\nworkers_per_job = 2")
    (profiles / "two.toml").write_text(two + logs)
    raw = textured((4, 40, 40))
    zarr.create_array(folder / "raw.zarr", data=raw)
    zarr.create_array(folder / "labels.zarr", data=(raw > 128).astype("u1"))
    (folder / "c.toml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.chdir(folder)
        yield folder


@pytest.fixture(autouse=True)
def _no_job_is_left(slurm):
    yield
    slurm.wait_until_empty(timeout_s=PATIENCE_S)


def submitted(out, *more):
    """Submit a training; return the id of its job."""
    command = [
        sys.executable, "-m", "flows.cli", "submit", "train", "--volume", "raw.zarr", "--labels",
        "labels.zarr", "--validation-slices", "3:4", "--config", "c.toml", "--out", out, *more,
    ]  # fmt: skip
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def slurm_says(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def until(what, said):
    start = time.monotonic()
    while not (found := what()):
        assert time.monotonic() - start < PATIENCE_S, said()
        time.sleep(0.2)
    return found


def job(job_id):
    return dict(
        re.findall(r"(\w+)=(\S*)", slurm_says("scontrol", "show", "job", "--oneliner", job_id))
    )


def log_of(job_id):
    path = Path(f"logs/overtile-{job_id}.log")
    return path.read_text() if path.exists() else ""


def ended(job_id):
    """Wait for a job's end and return Slurm's record of it."""
    over = ("COMPLETED", "FAILED", "CANCELLED")
    until(lambda: job(job_id)["JobState"] in over, lambda: log_of(job_id))
    return job(job_id)


def saves(job_id, folder):
    """Wait until a training has a checkpoint."""
    until(lambda: newest_checkpoint(Path(folder)), lambda: log_of(job_id))


def test_a_training_that_was_drained_and_requeued_has_the_tensors_of_an_undisturbed_one(place):
    job_id = submitted("w.safetensors", "--cluster", "one")
    saves(job_id, "w.training")
    slurm_says("scancel", "--batch", "--signal=USR1", job_id)
    until(lambda: "which resumes" in log_of(job_id), lambda: log_of(job_id))
    until(lambda: job(job_id)["JobState"] == "PENDING", lambda: log_of(job_id))
    shown = subprocess.run(
        [sys.executable, "-m", "flows.cli", "status", "w.safetensors", "--json"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    done = json.loads(shown.stdout)["done"]
    assert 0 < done < STEPS
    time.sleep(2)  # credentials of the second in which the last ones ended count as those
    slurm_says("scontrol", "update", f"JobId={job_id}", "StartTime=now")
    known = ended(job_id)
    assert (known["ExitCode"], known["Restarts"]) == ("0:0", "1"), log_of(job_id)
    assert f"resuming: {done} of {STEPS} steps are done" in log_of(job_id)

    pair = LabelledVolume(volume="raw.zarr", labels="labels.zarr")
    options = TrainOptions(config="c.toml", validation_slices=(3, 4))
    alone = prepare_training([pair], "alone.safetensors", options)
    here = alone.job(batch=2)  # its normalisation is stated: nothing to measure
    write_weights(alone, here, train(here, Alone()))
    one, other = (
        load_weights(name)[0].state_dict() for name in ("w.safetensors", "alone.safetensors")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_cancelled_job_of_two_ranks_loses_no_step_and_leaves_no_process(place):
    job_id = submitted("c.safetensors", "--cluster", "two")
    saves(job_id, "c.training")
    slurm_says("scancel", job_id)
    ended(job_id)
    until(lambda: not processes_of(job_id), lambda: log_of(job_id))
    with Path("c.training/log.csv").open(newline="") as file:
        logged = [int(row["step"]) for row in csv.DictReader(file)]
    saved = int(re.search(r"\d+", newest_checkpoint(Path("c.training")).name)[0])
    assert saved % 50, "the step at hand was not saved"
    assert saved == logged[-1] < STEPS, log_of(job_id)


def processes_of(job_id):
    mark = f"SLURM_JOB_ID={job_id}\0".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (path / "environ").read_bytes():
                found.append(path.name)
        except OSError:  # ended at this moment
            continue
    return found
