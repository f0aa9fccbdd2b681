"""The progress of runs on real clusters."""

import time

import zarr
from distributed import Client

from pipeline import SegmentRequest, SegmentRun
from unet import UNetPredictor


def test_progress_reports_that_the_cluster_lost_its_workers(weights, textured, tmp_path):
    zarr.create_array(tmp_path / "in.zarr", data=textured((1, 8, 20, 20))[0])
    request = SegmentRequest(
        input=str(tmp_path / "in.zarr"), output=str(tmp_path / "out.zarr"), block=(4, 8, 8)
    )
    with Client(
        processes=False, n_workers=2, threads_per_worker=1, dashboard_address=":0",
        set_as_default=False,
    ) as client:  # fmt: skip
        run = SegmentRun.open(request, UNetPredictor(weights("3d"), precision="fp32"), client)
        assert run.progress().workers == 2
        client.cluster.scale(0)
        latest = time.monotonic() + 30
        while run.progress().workers and time.monotonic() < latest:
            time.sleep(0.1)
        assert run.progress().workers == 0
    assert run.progress().workers == 0, "a closed client is not asked"
