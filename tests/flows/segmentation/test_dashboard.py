"""What the Dask dashboard shows of a run, and where its link appears."""

import re
import signal
import socket
import urllib.request
from collections import Counter

import pytest
import zarr
from dask.utils import key_split
from distributed import get_task_stream

from deploy import open_cluster
from flows.cli.main import main
from pipeline import segment_volume
from pipeline.segmentation.prepare import prepare
from pipeline.segmentation.request import SegmentRequest
from unet import UNetPredictor

BLOCK = (8, 16, 16)
STAGES = ("read", "wait", "device", "write")


@pytest.fixture(scope="module")
def stored(tmp_path_factory, textured):
    path = tmp_path_factory.mktemp("volume") / "in.zarr"
    zarr.create_array(path, data=textured((1, 21, 33, 70))[0], chunks=(8, 16, 16))
    return str(path)


def seen_by(dask_scheduler):
    """What the scheduler keeps for its dashboard; runs on the scheduler."""
    spans = dask_scheduler.extensions["spans"].spans
    return {
        "computed": sum(
            worker.metrics.get("mvoxel_computed", 0) for worker in dask_scheduler.workers.values()
        ),
        "metrics": {
            key: value
            for key, value in dask_scheduler.cumulative_worker_metrics.items()
            if key[:2] == ("execute", "segment-block")
        },
        "spans": {
            span_id: (span.name, sorted({group.prefix.name for group in span.groups}))
            for span_id, span in spans.items()
        },
    }


async def heartbeat(dask_worker):
    await dask_worker.heartbeat()


@pytest.fixture(scope="module")
def run(one_worker, weights, stored, tmp_path_factory):
    """One run: (what was seen before it, after it, its figures, its regions, its task stream)."""
    predictor = UNetPredictor(weights("3d"), precision="fp32")
    output = str(tmp_path_factory.mktemp("out") / "out.zarr")
    regions = prepare(SegmentRequest(input=stored, output=output, block=BLOCK), predictor).regions
    one_worker.run(heartbeat)
    before = one_worker.run_on_scheduler(seen_by)
    with get_task_stream(client=one_worker) as stream:
        figures = segment_volume(stored, output, predictor, client=one_worker, block=BLOCK)
    one_worker.run(heartbeat)  # metrics travel with it
    return before, one_worker.run_on_scheduler(seen_by), figures, regions, stream.data


def test_the_task_stream_shows_segment_block(run):
    _, _, figures, _, stream = run
    names = Counter(key_split(task["key"]) for task in stream)
    assert names["segment-block"] == figures.blocks
    assert not [name for name in names if name != "segment-block" and "segment" in name]


def test_every_region_is_one_span_that_holds_its_blocks(run):
    before, after, _, regions, _ = run
    assert len(regions) > 3
    new = [after["spans"][key] for key in after["spans"].keys() - before["spans"].keys()]
    of_regions = sorted(span for span in new if span[0][0].startswith("region-"))
    assert of_regions == sorted(((f"region-{r.number}",), ["segment-block"]) for r in regions)


def test_fine_performance_metrics_separate_read_wait_device_and_write(run):
    before, after, figures, _, _ = run
    for stage in STAGES:
        key = ("execute", "segment-block", stage, "seconds")
        spent = after["metrics"][key] - before["metrics"].get(key, 0)
        assert spent == pytest.approx(figures.stage_seconds[stage], abs=1e-6), stage


def test_the_page_of_workers_counts_the_voxels_that_are_computed(run):
    before, after, figures, *_ = run
    computed = 1e6 * (after["computed"] - before["computed"])
    assert computed == pytest.approx(figures.voxels, abs=1)


@pytest.mark.parametrize(
    "page", ["status", "individual-task-stream", "individual-fine-performance-metrics", "metrics"]
)
def test_the_dashboard_answers(page, one_worker):
    link = one_worker.dashboard_link
    assert link.endswith("/status")
    with urllib.request.urlopen(f"{link.removesuffix('status')}{page}", timeout=30) as answer:
        assert answer.status == 200
        assert answer.read()


def test_a_taken_port_moves_the_dashboard_and_the_link_follows():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "{}:{}".format(*taken.getsockname())
        with open_cluster("local", workers=1, dashboard=address) as client:
            assert address not in client.dashboard_link
            with urllib.request.urlopen(client.dashboard_link, timeout=30) as answer:
                assert answer.status == 200


@pytest.fixture
def signals_restored():
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.usefixtures("signals_restored")
def test_the_shell_prints_the_dashboards_link(stored, weights, tmp_path, one_worker, capsys):
    code = main(
        ["segment", stored, str(tmp_path / "out.zarr"), "--weights", weights("3d"),
         "--block", "16,32,32", "--cluster", one_worker.scheduler.address]
    )  # fmt: skip
    printed = capsys.readouterr().err
    assert code == 0, printed
    assert re.findall(r"^dashboard: (.*)$", printed, re.M) == [one_worker.dashboard_link]
