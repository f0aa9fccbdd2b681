"""Every item has one outcome, few are in flight, and a task's error is an outcome."""

from __future__ import annotations

import os
import signal
import threading
import time

import dask
import pytest
from distributed import Client, Event, KilledWorker, LocalCluster

from deploy import open_cluster
from pipeline.base import workers
from pipeline.base.errors import ClusterError, RunError, VolumeError
from pipeline.base.scheduling import (
    AHEAD_S,
    DEVICE_RESOURCE,
    InFlightLimit,
    drive,
    one_by_one,
    run_all,
)
from pipeline.base.workers import check_reach, device_share, present_workers, set_worker_wait


@pytest.fixture(scope="module")
def client():
    with Client(processes=False, n_workers=1, threads_per_worker=3, dashboard_address=None,
                set_as_default=False) as client:  # fmt: skip
        yield client


class Submitter:
    """Submits a function for each item, and records how many futures were in flight."""

    def __init__(self, client, function, *, retries=0):
        self.client, self.function, self.retries = client, function, retries
        self.futures = {}
        self.most = 0

    def __call__(self, item):
        future = self.client.submit(self.function, item, pure=False, retries=self.retries)
        self.futures[item] = future
        self.most = max(self.most, sum(not f.done() for f in self.futures.values()))
        return future


def twice(item):
    time.sleep(0.001 * (item % 7))
    return 2 * item


def moody(item):
    if item % 5 == 0:
        raise ValueError(f"item {item}")
    return 2 * item


def ended(client, items, submit, *, limit=5, stop=None):
    batches = drive(
        client, iter(items), one_by_one(submit), limit=lambda: limit, stop=stop or threading.Event()
    )
    return [outcome for batch in batches for outcome in batch]


@pytest.mark.parametrize("count", [0, 1, 5, 137])
def test_every_item_has_exactly_one_outcome(count, client):
    outcomes = ended(client, range(count), Submitter(client, twice))
    assert sorted(outcome.item for outcome in outcomes) == list(range(count))
    assert all(o.error is None and o.result == 2 * o.item for o in outcomes)


def test_an_error_is_an_outcome_and_stops_no_other_item(client):
    outcomes = ended(client, range(40), Submitter(client, moody))
    assert sorted(outcome.item for outcome in outcomes) == list(range(40))
    for outcome in outcomes:
        if outcome.item % 5:
            assert (outcome.result, outcome.error) == (2 * outcome.item, None)
        else:
            assert isinstance(outcome.error, ValueError)
            assert str(outcome.error) == f"item {outcome.item}"


@pytest.mark.parametrize("limit", [1, 4, 9])
def test_no_more_items_are_in_flight_than_the_limit_and_items_are_drawn_lazily(limit, client):
    submit = Submitter(client, twice)
    drawn = iter(range(60))
    seen = 0
    for batch in drive(
        client, drawn, one_by_one(submit), limit=lambda: limit, stop=threading.Event()
    ):
        seen += len(batch)
        assert len(submit.futures) <= seen + limit
    assert seen == 60
    assert submit.most <= limit


def test_a_limit_that_grows_is_followed(client):
    submit = Submitter(client, twice)
    limits = iter([1] * 10 + [8] * 10_000)
    stop = threading.Event()
    batches = drive(
        client, iter(range(200)), one_by_one(submit), limit=lambda: next(limits), stop=stop
    )
    assert sum(map(len, batches)) == 200
    assert 1 < submit.most <= 8


def test_a_future_is_released_when_its_outcome_is_yielded(client):
    submit = Submitter(client, twice)
    ended(client, range(30), submit)
    deadline = time.monotonic() + 10
    while client.futures and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not client.futures


def hold(item, event):
    event.wait(timeout=30)
    return item


def test_stop_submits_nothing_more_and_cancels_the_futures_in_flight(client):
    event = Event(client=client)
    submit = Submitter(client, lambda item: hold(item, event))
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    start = time.monotonic()
    outcomes = ended(client, range(100), submit, limit=6, stop=stop)
    assert time.monotonic() - start < 10, "it waited for what it had cancelled"
    assert outcomes == []
    assert len(submit.futures) == 6
    assert all(future.cancelled() for future in submit.futures.values())
    event.set()


def test_leaving_early_cancels_the_futures_in_flight(client):
    submit = Submitter(client, twice)
    batches = drive(
        client, iter(range(100)), one_by_one(submit), limit=lambda: 4, stop=threading.Event()
    )
    next(batches)
    batches.close()
    assert len(submit.futures) < 20
    assert not client.futures


def test_more_items_are_in_flight_if_they_take_milliseconds(client):
    limit = InFlightLimit(client, every_s=0.1)
    assert limit() == 6
    limit.ended(1000)
    time.sleep(0.2)
    assert 6 < limit() <= 1000 * AHEAD_S / 0.2
    time.sleep(0.2)
    assert limit() == 6


def test_the_limit_follows_the_threads_of_the_cluster(client):
    assert InFlightLimit(client)() == 6


def test_results_come_in_the_order_of_the_calls(client):
    calls = [(twice, (n,)) for n in (9, 1, 5, 0)]
    results = run_all(client, calls, key="k", token="a", stop=threading.Event())
    assert results == [18, 2, 10, 0]
    assert run_all(client, [], key="k", token="b", stop=threading.Event()) == []


def unreadable(item):
    raise VolumeError(f"volume {item} is gone")


def test_run_all_raises_user_errors_unchanged_and_others_as_run_errors(client):
    calls = [(moody, (n,)) for n in (1, 10)]
    with pytest.raises(RunError, match=r"ValueError: item 10; start the run again"):
        run_all(client, calls, key="k", token="c", stop=threading.Event(), retries=0)
    with pytest.raises(VolumeError, match="volume 3 is gone"):
        run_all(client, [(unreadable, (3,))], key="k", token="e", stop=threading.Event(), retries=0)


def test_the_error_of_a_stopped_run_all_states_how_to_resume(client):
    stop = threading.Event()
    stop.set()
    with pytest.raises(RunError, match="start the run again"):
        run_all(client, [(twice, (1,))], key="k", token="d", stop=stop)


attempts = {}


def at_last(item):
    attempts[item] = attempts.get(item, 0) + 1
    if attempts[item] < 3:
        raise OSError("not yet")
    return item


def test_an_item_is_retried_before_it_counts_as_failed(client):
    attempts.clear()
    (outcome,) = ended(client, [7], Submitter(client, at_last, retries=2))
    assert (outcome.result, outcome.error) == (7, None)
    assert attempts[7] == 3
    (outcome,) = ended(client, [8], Submitter(client, at_last, retries=1))
    assert isinstance(outcome.error, OSError)
    assert attempts[8] == 2


def test_losing_the_cluster_ends_the_run_and_the_error_states_how_to_resume():
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None,
                set_as_default=False) as client:  # fmt: skip
        batches = drive(
            client, iter(range(1000)), one_by_one(Submitter(client, twice)), limit=lambda: 2,
            stop=threading.Event(),
        )  # fmt: skip
        next(batches)
        client.close()
        with pytest.raises(RunError, match="start the run again"):
            for _ in batches:
                pass


def test_a_cancellation_by_the_cluster_ends_the_run_and_fails_no_item(client):
    event = Event(client=client)
    submit = Submitter(client, lambda item: hold(item, event))
    taken_away = threading.Timer(
        0.5, lambda: client.cancel(list(submit.futures.values()), force=True)
    )
    taken_away.start()
    with pytest.raises(RunError, match="start the run again"):
        ended(client, range(10), submit)
    taken_away.join()
    event.set()


def killer(item):
    """Item 3 ends its worker process once the others of its batch are there too."""
    if item == 3:
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return item


def test_a_task_that_kills_its_worker_costs_no_other_task():
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        open_cluster("local", workers=2) as client,
    ):

        def submit(some):
            return client.map(killer, some, key=[("killer", item) for item in some], pure=False)

        batches = drive(client, iter(range(24)), submit, limit=lambda: 8, stop=threading.Event())
        outcomes = {outcome.item: outcome.error for batch in batches for outcome in batch}
    assert sorted(outcomes) == list(range(24))
    assert [type(outcomes.pop(3))] == [KilledWorker]
    assert set(outcomes.values()) == {None}


def test_a_run_waits_for_workers_that_are_started_again(monkeypatch):
    """Killed workers are missing until their nannies have started others."""
    with LocalCluster(
        n_workers=0, threads_per_worker=2, processes=False, dashboard_address=None,
        resources={DEVICE_RESOURCE: 2},
    ) as cluster, Client(cluster) as client:  # fmt: skip
        with monkeypatch.context() as short:
            short.setattr(workers, "RESTART_S", 0.3)
            with pytest.raises(ClusterError, match="the cluster has no workers: start workers"):
                check_reach(client, [])
        joining = threading.Timer(0.5, cluster.scale, (1,))
        joining.start()
        check_reach(client, [])
        assert device_share(client) == {DEVICE_RESOURCE: 1.0}
        joining.join()


@pytest.fixture
def no_workers(monkeypatch):
    """A cluster of which no worker has joined, and which is not waited for."""
    monkeypatch.setattr(workers, "RESTART_S", 0.2)
    with LocalCluster(
        n_workers=0, threads_per_worker=1, processes=False, dashboard_address=None,
        resources={DEVICE_RESOURCE: 1},
    ) as cluster, Client(cluster, set_as_default=False) as client:  # fmt: skip
        yield cluster, client


def test_workers_in_a_queue_are_waited_for_as_long_as_their_cluster_states(no_workers):
    """They come for a task only, where a profile's ``jobs`` begin at 0."""
    cluster, client = no_workers
    set_worker_wait(client, 60)

    def join_for_a_task():
        while not cluster.scheduler.tasks:
            time.sleep(0.01)
        time.sleep(3 * workers.RESTART_S)
        cluster.scale(1)

    joining = threading.Thread(target=join_for_a_task, daemon=True)
    joining.start()
    assert present_workers(client)
    joining.join(20)
    until = time.monotonic() + 20
    while cluster.scheduler.tasks:
        assert time.monotonic() < until, "the task stays"
        time.sleep(0.05)


def test_a_region_begins_although_all_workers_wait_in_a_queue(no_workers):
    cluster, client = no_workers
    cluster.scale(1)
    client.wait_for_workers(1, timeout=20)
    assert device_share(client) == {DEVICE_RESOURCE: 1.0}
    cluster.scale(0)
    until = time.monotonic() + 20
    while workers.workers_of(client):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert device_share(client) == {DEVICE_RESOURCE: 1.0}
    cluster.scale(1)
    client.wait_for_workers(1, timeout=20)
