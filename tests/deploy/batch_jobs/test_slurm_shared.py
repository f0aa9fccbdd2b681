"""Training and segmentation submitted together to one cluster of Slurm jobs: both finish."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import zarr

from deploy.clusters.started import start_cluster, stop_cluster

pytestmark = pytest.mark.slurm

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
def shared(slurm, tmp_path, monkeypatch):
    """Start a cluster of two Slurm jobs that outlives its runs; return a folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "config/overtile").mkdir(parents=True)
    (tmp_path / "config/overtile/shared.toml").write_text(f"{slurm.profile}jobs = 2\n")
    start_cluster("shared")
    try:
        yield tmp_path
    finally:
        stop_cluster("shared")
    slurm.wait_until_empty(timeout_s=20)


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
