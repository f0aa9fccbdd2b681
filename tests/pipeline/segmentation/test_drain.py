"""A drained run ends early and loses nothing: it finishes and records the blocks in flight."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest
import zarr
from distributed.diagnostics.plugin import SchedulerPlugin

from pipeline import SegmentRequest
from pipeline.base.errors import RunDrainedError
from pipeline.base.local_client import local_client
from pipeline.base.location import Location
from pipeline.base.scheduling import InFlightLimit, drive, one_by_one
from pipeline.ledger.ledger import BlockState, run_attributes
from pipeline.segmentation.run import SegmentRun
from pipeline.segmentation.sequence import complete
from unet import UNetPredictor

SHAPE, BLOCK = (4, 48, 264), (4, 16, 24)
BLOCKS = 33


class BlocksBegun(SchedulerPlugin):
    """Counts how often each block is given to a worker."""

    name = "blocks-begun"

    def __init__(self):
        self.begun = Counter()

    def transition(self, key, start, finish, *args, **kwargs):
        if finish == "processing" and str(key[0]).startswith("segment-block"):
            self.begun[key[1:]] += 1


@pytest.fixture(scope="module")
def client():
    with local_client() as client:
        yield client


@pytest.fixture
def begun(client):
    """Return how often each block was given to a worker."""
    plugin = BlocksBegun()
    scheduler = client.cluster.scheduler
    scheduler.add_plugin(plugin)
    yield plugin.begun
    scheduler.remove_plugin(plugin.name)


@pytest.fixture
def opened(weights, textured, client, tmp_path):
    """Return a function that opens the run, for the first time or again."""
    source = tmp_path / "in.zarr"
    zarr.create_array(source, data=textured(SHAPE), chunks=(4, 16, 64))
    predictor = UNetPredictor(weights("3d"), precision="fp32", device="cpu")

    def make(**options):
        request = SegmentRequest(
            input=str(source), output=str(tmp_path / "out.zarr"), block=BLOCK, **options
        )
        return SegmentRun.open(request, predictor, client)

    return make


def drained_after(run, blocks):
    """Drain a run from another thread once some blocks are done."""

    def watch():
        while run.progress().done < blocks:
            if over.wait(0.005):
                return
        run.drain()

    over = threading.Event()
    thread = threading.Thread(target=watch)
    thread.start()
    return thread, over


def recorded(out):
    states = zarr.open_array(out / "run/done", mode="r")[...]
    return {tuple(map(int, index)) for index in np.argwhere(states == BlockState.DONE)}


def written(out):
    """Return the blocks whose shard exists."""
    folder = out / "labels/classes/0/c"
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {tuple(map(int, path.parts)) for path in files if path.suffix != ".partial"}


def test_a_drained_run_loses_no_block_and_starts_none_twice(opened, begun, tmp_path):
    run = opened()
    thread, over = drained_after(run, blocks=5)
    with pytest.raises(RunDrainedError, match=r"drained: \d+ of 33 blocks .* same run again") as e:
        complete(run)
    over.set()
    thread.join()
    out = tmp_path / "out.zarr"
    done = recorded(out)
    assert 5 <= len(done) < BLOCKS
    assert f"drained: {len(done)} of" in str(e.value)
    assert set(begun) == done == written(out)
    assert run_attributes(Location.parse(out))["figures"]["blocks"] == len(done)
    again = opened()
    assert again.resumed_blocks == len(done)
    assert complete(again).figures.blocks == BLOCKS
    assert recorded(out) == set(begun)
    assert set(begun.values()) == {1}


def test_a_run_that_is_drained_before_its_first_block_submits_nothing(opened, begun):
    for engine in ("store", "map_overlap"):
        run = opened(engine=engine, overwrite=True)
        run.drain()
        with pytest.raises(RunDrainedError, match="drained: 0 of 33"):
            complete(run)
    assert not begun


def test_a_run_that_is_drained_with_no_block_left_completes(opened, tmp_path):
    complete(opened())
    run = opened()
    run.drain()
    assert complete(run).figures.blocks == BLOCKS


def test_a_drained_pyramid_is_resumed_at_the_next_level(opened, tmp_path):
    run = opened(outputs=("classes", "scores"))
    for region in run.regions:
        run.segment_region(region)
    run.drain()
    with pytest.raises(RunDrainedError, match="drained: 33 of 33"):
        run.finish()
    assert not zarr.open_array(tmp_path / "out.zarr/1", mode="r")[...].any()
    again = opened(outputs=("classes", "scores"))
    again._ledger.note(levels=["1"])  # as if the drain had come after this level
    complete(again)
    assert not zarr.open_array(tmp_path / "out.zarr/1", mode="r")[...].any(), "built again"
    assert zarr.open_array(tmp_path / "out.zarr/labels/classes/1", mode="r")[...].any()


@pytest.mark.parametrize("after", [0, 1, 7, 20])
def test_a_drain_gives_every_submitted_item_an_outcome_and_submits_no_other(client, after):
    limit = InFlightLimit(client)
    submitted, ended = [], []

    def submit(number):
        submitted.append(number)
        return client.submit(lambda n: n, number, key=(f"drained-{after}", number), pure=False)

    if not after:
        limit.drain()
    for batch in drive(
        client, iter(range(20)), one_by_one(submit), limit=limit, stop=threading.Event()
    ):
        at_this_moment = len(submitted)
        ended += [outcome.result for outcome in batch]
        if len(ended) >= after:
            limit.drain()
            assert len(submitted) == at_this_moment
    assert sorted(ended) == submitted
    assert len(submitted) <= after + max(2, 2 * 3)
    if after == 0:
        assert submitted == []
