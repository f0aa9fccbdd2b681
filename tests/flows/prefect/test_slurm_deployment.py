"""`segment-volume/segment-slurm` by a Prefect worker, on a real one-node Slurm. make test-slurm."""

import time

import pytest
import zarr

from pipeline import segment_volume
from unet import UNetPredictor

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def login_node(slurm, front):
    """Return the front, whose user has a profile named slurm."""
    profiles = front.home / ".config/overtile"
    profiles.mkdir(parents=True)
    (profiles / "slurm.toml").write_text(f"{slurm.profile}jobs = 2\n")
    code, told = front.overtile("prefect", "up")  # again: now there is a profile
    assert code == 0, told
    return front


@pytest.fixture
def parameters(tmp_path, textured):
    """Return the parameters of a run, by the name of its output."""
    raw = textured((32, 128, 128))
    zarr.create_array(tmp_path / "in.zarr", data=raw, dimension_names=["z", "y", "x"])
    return lambda name, **options: {
        "input": str(tmp_path / "in.zarr"), "output": str(tmp_path / name), "weights": "demo",
        "options": {"block": [16, 32, 32], "tile": [16, 32, 32], **options},
    }  # fmt: skip


def files_under(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_volume_from_slurm_equals_the_local_one_byte_for_byte(
    login_node, slurm, parameters, tmp_path
):
    flow_run = login_node.run("segment-volume/segment-slurm", **parameters("slurm.zarr"))
    segment_volume(
        str(tmp_path / "in.zarr"), str(tmp_path / "local.zarr"), UNetPredictor("demo"),
        block=(16, 32, 32), tile=(16, 32, 32),
    )  # fmt: skip
    state = login_node.ended(flow_run)
    assert state.is_completed(), state.message
    local = files_under(tmp_path / "local.zarr/labels")
    assert len(local) > 32
    assert files_under(tmp_path / "slurm.zarr/labels") == local
    slurm.wait_until_empty(
        timeout_s=30
    )  # cancelled jobs are listed until their processes have ended


def test_cancelling_a_run_ends_its_jobs(login_node, slurm, waiting, parameters):
    flow_run = login_node.run("segment-volume/segment-slurm", **parameters("out.zarr", tta="full"))
    waiting(lambda: len([job for job in slurm.queue() if " R " in job]) == 2, what="its jobs")
    start = time.monotonic()
    login_node.done("prefect flow-run cancel", flow_run)
    waiting(lambda: not slurm.queue(), what="an empty queue", timeout_s=60)
    print(f"\nthe queue was empty {time.monotonic() - start:.0f} s after the command's start")
    assert login_node.ended(flow_run).is_cancelled()
