"""Turns: ranks and blocks share workers, and neither starves, on our and on other clusters."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from dataclasses import dataclass

import cloudpickle
import pytest
import torch
import torch.distributed as dist
from distributed import Client

from deploy import (
    YIELDED,
    RankLimits,
    RankReport,
    RanksResumed,
    TurnChanged,
    open_cluster,
    run_ranks,
)
from deploy.ranks import attempt
from deploy.ranks.turns import let_others_run
from faults.commands import WORKER
from pipeline.base.errors import ClusterError, RunError
from pipeline.base.scheduling import DEVICE_RESOURCE, InFlightLimit, drive, one_by_one
from pipeline.base.workers import device_share

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests

TURN_S = 2.0
BLOCK_S = 0.2


@pytest.fixture(scope="module")
def ours():
    with open_cluster("local", workers=2, dashboard=":0") as client:
        yield client


@pytest.fixture(scope="module")
def theirs(commands):
    """Return a client of a cluster of one thread per worker, without nannies or our resource."""
    with Client(
        n_workers=0, dashboard_address=None, host="127.0.0.1", set_as_default=False
    ) as client:
        words = [client.scheduler.address, "--no-nanny", "--nthreads", "1",
                 "--host", "127.0.0.1", "--no-dashboard"]  # fmt: skip
        workers = [commands.start(words, call=WORKER) for _ in range(2)]
        try:
            client.wait_for_workers(2, timeout=60)
            yield client
        finally:
            for worker in workers:
                worker.kill()


@dataclass(frozen=True)
class Ran:
    pid: int
    start: float
    end: float


class Training:
    """Steps on every rank, saved when it yields, like a training."""

    def __init__(self, folder, *, steps, step_s=0.05):
        self.folder, self.steps, self.step_s = folder, steps, step_s

    def __call__(self, rank):
        saved = self.folder / "step"
        step = int(saved.read_text()) if saved.exists() else 0
        start = time.monotonic()
        wish = torch.zeros(1)
        while step < self.steps and not wish:
            time.sleep(self.step_s)
            step += 1
            wish = torch.tensor([float(rank.should_stop())])
            dist.all_reduce(wish)
        if rank.rank == 0:
            saved.write_text(str(step))
        rank.report(Ran(os.getpid(), start, time.monotonic()))
        return step if step == self.steps else YIELDED


def block(number):
    start = time.monotonic()
    time.sleep(BLOCK_S)
    return {"pid": os.getpid(), "number": number, "start": start, "end": time.monotonic()}


class Segmentation(threading.Thread):
    """A stream of blocks that ends when requested, like a segmentation."""

    def __init__(self, client):
        super().__init__(name="segmentation")
        self.client, self.enough, self.outcomes = client, threading.Event(), []
        self.submitted = 0

    def run(self):
        resources = device_share(self.client)
        items = itertools.takewhile(lambda _: not self.enough.is_set(), itertools.count())

        def submit(number):
            self.submitted += 1
            return self.client.submit(block, number, pure=False, resources=resources)

        limit = InFlightLimit(self.client)
        for batch in drive(
            self.client, items, one_by_one(submit), limit=limit, stop=threading.Event()
        ):
            self.outcomes += batch

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.enough.set()
        self.join(timeout=60)
        assert not self.is_alive()


@pytest.mark.parametrize(
    "whose",
    [pytest.param("ours", marks=pytest.mark.slow), pytest.param("theirs", marks=pytest.mark.slow)],
)
def test_a_segmentation_and_a_training_on_the_same_workers_take_turns(whose, request, tmp_path):
    client = request.getfixturevalue(whose)
    events = []
    with Segmentation(client) as segmentation:
        while not segmentation.outcomes:
            time.sleep(0.05)
        start = time.monotonic()
        results = run_ranks(
            Training(tmp_path, steps=90), client=client, ranks=2, message_types=[Ran],
            on_event=events.append, limits=RankLimits(turn_s=TURN_S),
        )  # fmt: skip
        end = time.monotonic()
    assert results == [90, 90]
    assert not [e for e in events if isinstance(e, RanksResumed)], "a turn is not a loss"

    turns = [event.holder for event in events if isinstance(event, TurnChanged)]
    assert len(turns) >= 2
    assert turns == ["others", "ranks"] * (len(turns) // 2)

    blocks = [outcome.result for outcome in segmentation.outcomes]
    assert sorted(b["number"] for b in blocks) == list(range(segmentation.submitted))
    meanwhile = sorted(b["end"] for b in blocks if start < b["end"] < end)
    pauses = [b - a for a, b in itertools.pairwise([start, *meanwhile, end])]
    assert max(pauses) < 15, "the blocks starved"
    assert len(meanwhile) >= 0.3 * TURN_S / BLOCK_S * 2

    ranks = [event.payload for event in events if isinstance(event, RankReport)]
    for rank, one in itertools.product(ranks, blocks):
        apart = one["end"] <= rank.start or rank.end <= one["start"]
        assert rank.pid != one["pid"] or apart, "a block ran while a rank had the device"


def test_ranks_keep_the_device_while_no_task_waits_for_it(ours, tmp_path, monkeypatch):
    monkeypatch.setattr(attempt, "CHECK_EVERY_S", 0.1)
    events = []
    training = Training(tmp_path, steps=30)
    results = run_ranks(
        training, client=ours, ranks=2, message_types=[Ran], on_event=events.append,
        limits=RankLimits(turn_s=0.3),
    )  # fmt: skip
    assert results == [30, 30]
    assert not [event for event in events if isinstance(event, TurnChanged)]


def test_the_turn_of_other_tasks_ends_when_the_workers_are_idle(ours):
    futures = [ours.submit(block, number, pure=False) for number in range(3)]
    start = time.monotonic()
    let_others_run(ours, list(ours.nthreads()), turn_s=60, stop=threading.Event())
    assert all(future.done() for future in futures)
    assert time.monotonic() - start < 20


def test_a_block_requests_the_device_only_if_every_worker_offers_it(ours, theirs):
    assert device_share(ours) == {DEVICE_RESOURCE: 1}
    offered = [w["resources"][DEVICE_RESOURCE] for w in ours.scheduler_info()["workers"].values()]
    assert offered == list(ours.nthreads().values()), "as many blocks at once as there are threads"
    assert device_share(theirs) == {}


def test_ranks_that_cannot_get_their_workers_are_an_error_in_time(theirs, tmp_path):
    (first, *_) = theirs.nthreads()

    def until_released():
        while not (tmp_path / "released").exists():
            time.sleep(0.05)

    busy = theirs.submit(until_released, workers=[first], pure=False)
    while not theirs.processing()[first]:
        time.sleep(0.05)
    with pytest.raises(ClusterError, match=f"of 2 ranks could not begin within 1 s on .*{first}"):
        run_ranks(
            lambda rank: None, client=theirs, ranks=2, limits=RankLimits(device_s=1)
        )  # the free one may still load torch
    assert busy.status != "cancelled"
    (tmp_path / "released").touch()
    busy.result(timeout=30)


@pytest.mark.slow
def test_the_run_continues_without_a_worker_that_does_not_come_back(theirs):
    def killed_once(rank):
        if rank.rank == 1:
            os._exit(1)
        while rank.world_size > 1 and not rank.should_stop():
            time.sleep(0.05)
        return rank.world_size

    events, limits = [], RankLimits(rejoin_s=1)
    results = run_ranks(killed_once, client=theirs, ranks=2, limits=limits, on_event=events.append)
    assert results == [1]
    assert [(event.attempt, event.world_size) for event in events] == [(1, 1)]

    def kill(rank):
        os._exit(1)

    with pytest.raises(RunError, match=r"^0 of 1 workers are left after 1 s \(rank 0 was lost"):
        run_ranks(kill, client=theirs, ranks=1, limits=limits)
