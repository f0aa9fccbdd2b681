"""A measured plan: its arithmetic, and that measuring leaves nothing behind."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from deploy import open_cluster
from pipeline.base.errors import RunError
from pipeline.segmentation import calibration as calibration_module
from pipeline.segmentation.calibration import (
    Ended,
    calibrate,
    relative_spread,
    spread,
    voxels_per_s,
    warm_up_s,
)
from pipeline.segmentation.prepare import prepare
from pipeline.segmentation.request import SegmentRequest
from pipeline.segmentation.run import SegmentRun
from pipeline.segmentation.sequence import complete
from unet import UNetPredictor


@given(st.integers(1, 500), st.integers(1, 100))
def test_measured_blocks_are_distinct_and_spread_over_all(count, most):
    indices = [(n,) for n in range(count)]
    chosen = spread(indices, most)
    assert len(set(chosen)) == len(chosen) == min(count, most)
    places = sorted(n for (n,) in chosen)
    gaps = [b - a for a, b in itertools.pairwise(places)]
    assert not gaps or max(gaps) <= -(-count // len(chosen)) + 1


@given(st.floats(0.1, 50), st.integers(1, 8), st.integers(40, 200), st.floats(0, 100))
def test_the_first_wave_does_not_change_the_measured_speed(block_s, threads, count, warm_up_s):
    ended = [Ended(warm_up_s + block_s * (1 + n // threads), 1000) for n in range(count)]
    expected = 1000 * threads / block_s
    assert voxels_per_s(ended, threads=threads) == pytest.approx(expected, rel=0.3)


@given(st.floats(0.1, 50), st.integers(1, 8), st.integers(40, 200), st.floats(0, 100))
def test_the_first_wave_counts_once(block_s, threads, count, warm_up):
    ended = [Ended(warm_up + block_s * (1 + n // threads), 1000) for n in range(count)]
    found = warm_up_s(ended, 1000 * threads / block_s, threads=threads)
    assert found == pytest.approx(warm_up, abs=1.01 * block_s)


def test_a_steady_measurement_has_the_smallest_range_and_a_short_one_a_wide_range():
    steady = [Ended(float(n), 10) for n in range(1, 60)]
    assert relative_spread(steady, threads=2) == calibration_module.LEAST_SPREAD
    assert relative_spread(steady[:4], threads=2) == 0.5


@pytest.fixture
def prepared(tmp_path, textured, weights):
    zarr.create_array(
        str(tmp_path / "in.zarr"), data=textured((8, 40, 70)), dimension_names=["z", "y", "x"]
    )
    request = SegmentRequest(
        input=str(tmp_path / "in.zarr"), output=str(tmp_path / "out.zarr"), block=(4, 16, 16)
    )
    return prepare(request, UNetPredictor(weights("3d"), precision="fp32"))


def test_measuring_leaves_no_output_and_counts_every_block_of_the_run(
    prepared, one_worker, tmp_path
):
    found = calibrate(prepared, one_worker, started_s=1.5, measure_s=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.zarr"]
    assert found.blocks == len(prepared.plan)
    assert 0 < found.measured_blocks <= found.blocks
    assert found.setup_s > 1.5
    assert found.fastest_s < found.seconds < found.slowest_s
    assert found.bytes_written > 0
    assert found.worker_memory_bytes > 2**26


class OnGpu(UNetPredictor):
    """A network whose worker states a GPU; it computes on the processor."""

    def free_device_bytes(self):
        return 10 * 2**30


def test_workers_count_as_gpus_if_the_network_computes_there(prepared, one_worker):
    network = OnGpu(prepared.predictor.weights_uri, precision="fp32")
    found = calibrate(replace(prepared, predictor=network), one_worker, started_s=0, measure_s=1)
    assert found.gpus == 1
    assert found.device_hours == found.seconds / 3600


def test_what_is_done_already_is_not_counted(prepared, one_worker):
    run = SegmentRun.start(prepared, one_worker)
    complete(run)
    again = prepare(prepared.request, prepared.predictor)
    found = calibrate(again, one_worker, started_s=0, measure_s=5)
    assert found.blocks == 0
    assert found.blocks_s < 5
    assert found.pyramid_s == 0


def test_a_failed_measurement_leaves_no_output(prepared, one_worker, tmp_path):
    for chunk in (tmp_path / "in.zarr" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"damaged")
    with pytest.raises(RunError, match="a block failed"):
        calibrate(prepared, one_worker, started_s=0, measure_s=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.zarr"]


@pytest.mark.slow  # within the whole suite a worker took 828 MB, alone 460: not understood
def test_a_worker_needs_at_most_the_memory_that_the_plan_states(prepared):
    with open_cluster("local", workers=1, dashboard=":0") as client:
        found = calibrate(prepared, client, started_s=0, measure_s=5)
    assert found.worker_memory_bytes <= prepared.budget.worker_memory_bytes
