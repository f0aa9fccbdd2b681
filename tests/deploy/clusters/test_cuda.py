"""One dask-cuda worker per GPU; its own test switch makes it run without GPUs."""

from __future__ import annotations

import os
import sys
import time

import cloudpickle
import numpy as np
import pytest
import zarr

from deploy import open_cluster
from deploy.clusters.gpu import PRETEND, VISIBLE, missing_gpu
from pipeline import segment_volume
from pipeline.base.errors import ClusterError
from unet import UNetPredictor

pytest.importorskip("dask_cuda")


@pytest.fixture
def no_switch(monkeypatch):
    """Check for GPUs as a user's run does; skip if there is one."""
    monkeypatch.delenv(PRETEND, raising=False)
    monkeypatch.delenv(VISIBLE, raising=False)
    from dask_cuda.utils import get_gpu_count

    try:
        count = get_gpu_count()
    except Exception:
        return
    if count:
        pytest.skip("there is a GPU here")


def environment(name):
    return os.environ[name]


@pytest.mark.slow
def test_each_simulated_gpu_has_a_worker_that_lists_it_first(monkeypatch):
    monkeypatch.setenv(PRETEND, "1")
    monkeypatch.delenv(VISIBLE, raising=False)
    with open_cluster("cuda", devices=["3", "5"], dashboard=":0") as client:
        seen = client.run(environment, VISIBLE)
        assert sorted(seen.values()) == ["3,5", "5,3"]
        assert set(client.nthreads().values()) == {3}
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        assert [worker["resources"] for worker in workers] == [{"device": 3}] * 2
        assert client.dashboard_link.startswith("http://127.0.0.1:")


def test_a_volume_from_gpu_workers_equals_that_from_cpu_workers(
    monkeypatch, tmp_path, textured, weights, one_worker
):
    source = textured((12, 40, 40))
    zarr.create_array(tmp_path / "in.zarr", data=source, dimension_names=("z", "y", "x"))
    predictor = UNetPredictor(weights("3d"))
    monkeypatch.setenv(PRETEND, "1")
    monkeypatch.setenv(VISIBLE, "0,1")
    with open_cluster("cuda", dashboard=":0") as client:
        assert len(client.nthreads()) == 2
        for name, where in (("cuda", client), ("local", one_worker)):
            segment_volume(
                str(tmp_path / "in.zarr"), str(tmp_path / f"{name}.zarr"), predictor,
                client=where, block=(8, 16, 16), tile=(8, 16, 16),
            )  # fmt: skip
    cuda, local = (
        zarr.open_array(tmp_path / f"{name}.zarr/labels/classes/0")[:] for name in ("cuda", "local")
    )
    np.testing.assert_array_equal(cuda, local)
    assert len(np.unique(local)) > 1


def test_a_missing_gpu_fails_at_once_with_the_reason(no_switch):
    start = time.monotonic()
    with (
        pytest.raises(
            ClusterError, match=r"needs an NVIDIA GPU, but this machine has none, .*--cluster"
        ) as caught,
        open_cluster("cuda"),
    ):
        pass
    assert "NVML" not in str(caught.value), "what NVIDIA's library prints"
    assert time.monotonic() - start < 5


def test_hidden_gpus_are_reported(monkeypatch, no_switch):
    monkeypatch.setenv(VISIBLE, "")
    with (
        pytest.raises(ClusterError, match=r"needs a GPU, but CUDA_VISIBLE_DEVICES hides all"),
        open_cluster("cuda"),
    ):
        pass


def test_a_gpu_that_torch_cannot_use_is_an_error_and_not_a_silent_cpu_run(monkeypatch):
    """The driver is simulated; the workers' torch really uses the CPU."""
    import torch

    from deploy.clusters import cuda

    if torch.cuda.is_available():
        pytest.skip("torch computes on a GPU here")
    monkeypatch.setenv(PRETEND, "1")
    monkeypatch.setattr(cuda, "missing_gpu", missing_without_switch)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests
    with (
        pytest.raises(ClusterError, match=r"torch .* of the workers finds no GPU: install"),
        open_cluster("cuda", devices=["0"], dashboard=":0"),
    ):
        pass


def missing_without_switch():
    os.environ.pop(PRETEND, None)
    return missing_gpu()
