"""The progress of runs on real clusters."""

import time

import pytest
import zarr
from distributed import Client

from pipeline import SegmentRequest, SegmentRun, with_tta
from pipeline.segmentation.engines import part_done
from pipeline.segmentation.sequence import complete
from unet import UNetPredictor

seen_within = []


class AsksForProgress(UNetPredictor):
    """Weights that, from the second tile on, wait until the driver knows of the first one."""

    run = None

    def __call__(self, x_nczyx):
        scores = super().__call__(x_nczyx)
        latest = time.monotonic() + 20
        while len(seen_within) and not seen_within[-1] and time.monotonic() < latest:
            seen_within.append(AsksForProgress.run.progress().within)
            time.sleep(0.01)
        seen_within.append(AsksForProgress.run.progress().within)
        return scores


def test_a_run_of_one_block_shows_progress_before_the_block_ends(
    weights, textured, tmp_path, monkeypatch
):
    monkeypatch.setattr(part_done, "SHORTEST_PAUSE_S", 0.0)
    monkeypatch.setattr(part_done, "MOST_MESSAGES_PER_S", 1e9)
    zarr.create_array(tmp_path / "in.zarr", data=textured((1, 8, 32, 32))[0])
    request = SegmentRequest(
        input=str(tmp_path / "in.zarr"), output=str(tmp_path / "out.zarr"), block=(8, 32, 32),
        tile=(8, 16, 16),
    )  # fmt: skip
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=":0",
                set_as_default=False) as client:  # fmt: skip
        predictor = AsksForProgress(weights("3d"), precision="fp32")
        AsksForProgress.run = run = SegmentRun.open(request, predictor, client)
        assert run.blocks == 1
        complete(run)
    assert 0 < max(seen_within) < 1
    assert (run.progress().within, run.progress().percent) == (0, 100)


@pytest.mark.parametrize(
    ("network", "traversal"), [("2d", "tiles"), ("3d", "tiles"), ("3d", "sweep")]
)
def test_a_block_of_one_tile_shows_progress_through_its_orientations(
    weights, textured, tmp_path, monkeypatch, network, traversal
):
    monkeypatch.setattr(part_done, "SHORTEST_PAUSE_S", 0.0)
    monkeypatch.setattr(part_done, "MOST_MESSAGES_PER_S", 1e9)
    depth = 1 if network == "2d" else 16
    zarr.create_array(tmp_path / "in.zarr", data=textured((1, depth, 32, 32))[0])
    request = SegmentRequest(
        input=str(tmp_path / "in.zarr"), output=str(tmp_path / "out.zarr"),
        block=(depth, 32, 32), tile=(depth, 32, 32), traversal=traversal,
    )  # fmt: skip
    predictor = with_tta(UNetPredictor(weights(network), precision="fp32"), "rotations")
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=":0",
                set_as_default=False) as client:  # fmt: skip
        run = SegmentRun.open(request, predictor, client)
        complete(run)
        parts = [event[1][2] for event in client.get_events(part_done.TOPIC)]
    assert run.blocks == 1
    assert parts == sorted(parts)
    assert {0.25, 0.5, 0.75} <= {round(part, 2) for part in parts}


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


def test_runs_of_one_client_know_their_own_parts_and_drop_late_messages():
    ended = {(0, 0, 1)}
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=":0",
                set_as_default=False) as client:  # fmt: skip
        first, second = (
            part_done.PartsDone(client, token, has_ended=ended.__contains__) for token in "ab"
        )
        messages = (
            ("a", (0, 0, 1), 0.9), ("a", (0, 0, 0), 0.25), ("of a lost run", (0, 0, 0), 0.9),
            ("b", (0, 0, 0), 0.5),
        )  # fmt: skip
        for _ in range(2):  # the first may be lost, until the scheduler knows who subscribed
            second.forget([(0, 0, 0)])
            latest = time.monotonic() + 20
            while not second.blocks and time.monotonic() < latest:
                for token, index, part in messages:
                    client.log_event(part_done.TOPIC, [token, list(index), part])
                time.sleep(0.01)
    assert (first.blocks, second.blocks) == (0.25, 0.5)
