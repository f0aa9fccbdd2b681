"""Training and segmentation submitted together to one cluster of Slurm jobs: both finish."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

from deploy.clusters.started import start_cluster, stop_cluster

pytestmark = pytest.mark.slurm

SCRIPT = Path(__file__).parents[2] / "slurm_one_node.sh"
TOOLS = ("sbatch", "squeue", "scancel", "slurmctld", "slurmd", "munged")
PROFILE = """
kind = "slurm"
jobs = 2
partition = "main"
cpus_per_job = 1
memory_per_job = "3GiB"
interface = "lo"
threads_per_worker = 2
walltime = "10 min"
dashboard = "127.0.0.1:0"
"""
CONFIG = """
[network]
base_channels = 2
levels = 2
[training]
patch = [12, 12]
batch = 2
precision = "fp32"
validate_every = 20
checkpoint_every = 10
"""


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """Start a Slurm and a cluster of two jobs on it that outlives its runs; return a folder."""
    path = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"
    if missing := [tool for tool in TOOLS if shutil.which(tool, path=path) is None]:
        pytest.skip(f"no Slurm here ({', '.join(missing)}): apt-get install slurm-wlm munge")
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm/slurm.conf"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "config/overtile").mkdir(parents=True)
    (tmp_path / "config/overtile/shared.toml").write_text(PROFILE)
    subprocess.run(["bash", SCRIPT, "start", tmp_path / "slurm", "--cpus", "4"], check=True)
    try:
        start_cluster("shared")
        yield tmp_path
        stop_cluster("shared")
        until = time.monotonic() + 20
        while queue := subprocess.run(["squeue", "-h"], capture_output=True, check=True).stdout:
            assert time.monotonic() < until, queue
            time.sleep(0.2)
    finally:
        subprocess.run(["bash", SCRIPT, "stop", tmp_path / "slurm"], check=True)


def test_training_and_segmentation_submitted_together_to_one_slurm_cluster_both_finish(
    shared, textured
):
    raw = textured((8, 64, 64))
    zarr.create_array(shared / "raw.zarr", data=raw, dimension_names=("z", "y", "x"))
    zarr.create_array(shared / "labels.zarr", data=(raw > 128).astype("u1"))
    (shared / "config.toml").write_text(CONFIG)
    overtile = [sys.executable, "-m", "flows.cli"]
    train = [
        *overtile, "train", "--volume", "raw.zarr", "--labels", "labels.zarr",
        "--validation-slices", "6:8", "--config", "config.toml", "--steps", "60",
        "--out", "new.safetensors", "--cluster", "shared",
    ]  # fmt: skip
    segment = [
        *overtile, "segment", "raw.zarr", "out.zarr", "--weights", "demo", "--block", "8,32,32",
        "--tile", "8,32,32", "--cluster", "shared",
    ]  # fmt: skip
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": shared}
    runs = [subprocess.Popen(command, **pipes) for command in (train, segment)]
    try:
        said = [run.communicate(timeout=240)[0] for run in runs]
    finally:
        for run in runs:
            run.kill()
            run.wait()
    assert [run.returncode for run in runs] == [0, 0], "\n---\n".join(said)
    assert (shared / "new.safetensors").stat().st_size > 0
    assert len(np.unique(zarr.open_array(shared / "out.zarr/labels/classes/0")[:])) > 1
