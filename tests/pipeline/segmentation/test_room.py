"""Plans follow what workers can spare; the sizes of an output stay those of its first run."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster

from pipeline import SegmentRequest
from pipeline.base.errors import PlanError
from pipeline.ledger.shares import merge_shares
from pipeline.models.tta import with_tta
from pipeline.planning.tile_memory import SPARED, WorkerRoom
from pipeline.segmentation.part import choose_part
from pipeline.segmentation.prepare import prepare
from pipeline.segmentation.room import ask_workers, fit_to_workers
from pipeline.segmentation.run import SegmentRun
from pipeline.segmentation.sequence import complete
from pipeline.segmentation.sizes import choose_sizes
from unet import UNetPredictor

SMALL, LARGE = (WorkerRoom(memory_bytes=size, is_asked=True) for size in (2**20, 2**32))


@pytest.fixture
def deep(tmp_path, textured):
    path = tmp_path / "in.zarr"
    zarr.create_array(path, data=textured((1, 96, 40, 40))[0], chunks=(16, 16, 16))
    return str(path)


@pytest.fixture
def predictor(weights):
    return UNetPredictor(weights("3d"), precision="fp32", device="cpu")


def source_of(asked):
    return asked.find_source(level=None)


def request(deep, tmp_path, *, shard=None, **settings):
    return SegmentRequest(input=deep, output=tmp_path / "out.zarr", shard=shard, **settings)


@pytest.mark.parametrize("limit", [3 * 2**30, 10 * 2**30])
def test_workers_are_asked_and_the_plan_fits_the_least_of_them(deep, tmp_path, predictor, limit):
    with (
        LocalCluster(
            n_workers=2, processes=False, memory_limit=limit, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        room = ask_workers(client, predictor)
        prepared = prepare(request(deep, tmp_path), predictor)
        fitted = fit_to_workers(prepared, client)
        again = fit_to_workers(fitted, client)
    assert room is not None
    assert room.is_asked
    assert room.device_bytes is None
    assert room.workers == 2
    assert 0 < room.memory_bytes <= limit
    assert prepared.room is None
    assert fitted.room == room
    assert fitted.budget.worker_memory_bytes <= SPARED * limit
    assert again is fitted


class OnGpu(UNetPredictor):
    """A network whose worker states a GPU; it computes on the processor."""

    def free_device_bytes(self):
        return 10 * 2**30


@pytest.mark.parametrize("tta", ["none", "rotations"])
def test_a_worker_with_a_gpu_states_its_free_memory(weights, tta, one_worker):
    network = OnGpu(weights("3d"), precision="fp32", device="cpu")
    room = ask_workers(one_worker, with_tta(network, tta))
    assert room is not None
    assert room.device_bytes == 10 * 2**30


def test_workers_that_see_the_same_gpus_share_one(weights):
    network = OnGpu(weights("3d"), precision="fp32", device="cpu")
    with (
        LocalCluster(n_workers=2, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        room = ask_workers(client, network)
    assert room is not None
    assert room.device_bytes == 5 * 2**30


class Large(UNetPredictor):
    """A network whose tiles take 8 GiB, by its own account."""

    def memory_bytes(self, output_shape):
        return 2**33


class LargeOnGpu(Large, OnGpu):
    """The same, on a GPU."""


@pytest.mark.parametrize("network", [Large, LargeOnGpu])
def test_a_tile_on_a_gpu_needs_no_memory_of_its_worker_at_a_start_or_later(
    deep, tmp_path, weights, network
):
    wanted = request(deep, tmp_path, tile=(8, 8, 8), tile_memory_bytes=2**34)
    predictor = network(weights("3d"), precision="fp32", device="cpu")
    with (
        LocalCluster(
            n_workers=1, processes=False, memory_limit=3 * 2**30, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        if network is Large:
            with pytest.raises(PlanError, match="a worker needs"):
                SegmentRun.start(prepare(wanted, predictor), client)
            return
        for action in ("created", "resumed"):
            prepared = prepare(wanted, predictor)
            assert prepared.output_action == action
            SegmentRun.start(prepared, client)


def test_a_plan_with_a_given_tile_asks_nobody(deep, tmp_path, predictor):
    prepared = prepare(request(deep, tmp_path, tile=(8, 8, 8)), predictor, room=LARGE)
    assert prepared.room is None
    assert fit_to_workers(prepared, client=None) is prepared


def test_a_given_memory_is_kept_whatever_workers_can_spare(deep, tmp_path, predictor, one_worker):
    prepared = prepare(request(deep, tmp_path, tile_memory_bytes=3 * 2**19), predictor)
    fitted = fit_to_workers(prepared, one_worker)
    assert prepared.tile_memory_bytes == fitted.tile_memory_bytes == 3 * 2**19
    assert fitted.budget.tile_memory_bytes <= 3 * 2**19


@pytest.mark.parametrize("shares", [1, 3])
def test_a_plan_is_for_the_workers_of_all_shares(deep, tmp_path, predictor, shares, monkeypatch):
    monkeypatch.setattr("pipeline.planning.tile_choice.SMALL_FLOPS", 0)
    asked = request(deep, tmp_path, shard=f"1/{shares}" if shares > 1 else None)
    room = replace(LARGE, workers=8)
    sizes = choose_sizes(
        asked, predictor, source_of(asked), choose_part(asked, source_of(asked)),
        stored={}, room=room,
    )  # fmt: skip
    assert len(sizes.plan) % (8 * shares) == 0


def test_a_run_is_resumed_with_its_own_sizes_where_workers_can_spare_more(
    deep, tmp_path, predictor, one_worker
):
    wanted = request(deep, tmp_path)
    first = prepare(wanted, predictor, room=SMALL)
    assert first.plan.tile != prepare(wanted, predictor, room=LARGE).plan.tile
    SegmentRun.start(first, one_worker)
    resumed = prepare(wanted, predictor, room=LARGE)
    assert resumed.plan == first.plan
    complete(SegmentRun.start(resumed, one_worker))


@pytest.mark.slow
def test_shares_that_start_on_machines_of_different_memory_agree_on_the_sizes(
    deep, tmp_path, predictor, one_worker
):
    wanted = request(deep, tmp_path, block=(24, 20, 20))
    first, second = (
        prepare(replace(wanted, shard=f"{number}/2"), predictor, room=room)
        for number, room in ((1, SMALL), (2, LARGE))
    )
    assert first.plan.tile != second.plan.tile
    runs = [SegmentRun.start(share, one_worker) for share in (first, second)]
    assert runs[1].prepared.plan == runs[1].job.plan == first.plan
    for run in runs:
        complete(run)
    merge_shares(wanted.output)
    last = prepare(wanted, predictor, room=LARGE, finishing=True)
    complete(SegmentRun.start(last, one_worker))
    found = zarr.open_array(tmp_path / "out.zarr/labels/classes/0", mode="r")[...]
    shutil.rmtree(tmp_path / "out.zarr")
    complete(SegmentRun.start(prepare(wanted, predictor, room=SMALL), one_worker))
    whole = zarr.open_array(tmp_path / "out.zarr/labels/classes/0", mode="r")[...]
    assert np.array_equal(found, whole)
