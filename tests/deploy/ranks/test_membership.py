"""Ranks come and go: workers that join take ranks, and workers that end are left in time."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace

import cloudpickle
import pytest
import torch
import torch.distributed as dist

from deploy import YIELDED, RankLimits, RankReport, RanksResumed, open_cluster, run_ranks
from deploy.ranks import attempt
from deploy.ranks import run as ranks
from deploy.ranks import workers as workers_module
from deploy.ranks.membership import ending, joinable
from deploy.ranks.outcome import Lost
from deploy.ranks.workers import RankWorker
from pipeline.base.errors import RunError
from pipeline.base.workers import workers_of

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests


@dataclass(frozen=True)
class Saved:
    """A step that was saved, by so many ranks."""

    step: int
    world_size: int


class Training:
    """Saves every second step, and leaves then if other workers could join."""

    def __init__(self, folder, *, steps, step_s=0.1):
        self.folder, self.steps, self.step_s = folder, steps, step_s

    def __call__(self, rank):
        saved = self.folder / "step"
        step = int(saved.read_text()) if saved.exists() else 0
        while step < self.steps:
            time.sleep(self.step_s)
            step += 1
            wishes = torch.tensor([float(rank.should_stop()), float(rank.should_regroup())])
            if rank.world_size > 1:
                dist.all_reduce(wishes)
            stops, regroups = (wishes > 0).tolist()
            saves = stops or step % 2 == 0
            if saves and rank.rank == 0:
                saved.write_text(str(step))
                rank.report(Saved(step, rank.world_size))
            rank.barrier()
            if step < self.steps and (stops or (saves and regroups)):
                return YIELDED
        return step


class FailsOnWorker(Training):
    """A training that one of the workers cannot run."""

    def __init__(self, folder, *, address, **options):
        super().__init__(folder, **options)
        self.address = address

    def __call__(self, rank):
        from distributed import get_worker

        if get_worker().address == self.address:
            raise ModuleNotFoundError("no torch here")
        return super().__call__(rank)


@pytest.fixture(scope="module")
def client():
    with open_cluster("local", workers=2, dashboard=":0", tls="off") as client:
        yield client


class Events:
    """Records the events of a run; calls a function at the first saved step."""

    def __init__(self, at_saved=lambda: None):
        self.saved, self.resumed, self._at_saved = [], [], at_saved

    def __call__(self, event):
        if isinstance(event, RanksResumed):
            self.resumed.append((event.world_size, event.reason))
        if isinstance(event, RankReport):
            self.saved.append(event.payload)
            do, self._at_saved = self._at_saved, lambda: None
            do()


@pytest.fixture(autouse=True)
def quick_checks(monkeypatch):
    """Let the driver look for workers as often as a step is done."""
    monkeypatch.setattr(attempt, "CHECK_EVERY_S", 0.1)


def run(training, client, events, **options):
    return run_ranks(training, client=client, message_types=[Saved], on_event=events, **options)


def test_a_free_worker_is_taken_in_when_the_state_is_next_saved(client, tmp_path):
    events = Events()
    results = run(Training(tmp_path, steps=20), client, events, ranks=1, max_ranks=2)
    assert results == [20, 20]
    assert events.resumed == [(2, "1 worker joined")]
    steps = [saved.step for saved in events.saved]
    assert steps == list(range(2, 21, 2)), "a step was lost, or saved without need"
    sizes = [saved.world_size for saved in events.saved]
    assert sizes == sorted(sizes)
    assert {1, 2} == set(sizes)


def test_no_more_ranks_than_asked_for_and_none_for_a_callable_that_ignores_the_offer(
    client, tmp_path
):
    events = Events()
    assert run(Training(tmp_path, steps=10), client, events, ranks=1) == [10]
    assert events.resumed == []

    def ignores(rank):
        time.sleep(1.5)
        return rank.should_regroup()

    assert run(ignores, client, events, ranks=1, max_ranks=2) == [True]
    assert events.resumed == []


def test_a_worker_that_cannot_join_is_set_aside_and_the_others_resume(client, tmp_path):
    addresses = sorted(workers_of(client))
    events = Events()
    training = FailsOnWorker(tmp_path, steps=20, address=addresses[1])
    assert run(training, client, events, ranks=1, max_ranks=2) == [20]
    (joined, left) = events.resumed
    assert joined == (2, "1 worker joined")
    assert left == (
        1, "the ranks did not start (no torch here), after 1 worker joined"
    )  # fmt: skip
    assert {saved.world_size for saved in events.saved} == {1}


def set_status(name, dask_worker):
    """Announce the end of a worker, as Dask and a job's drain do; or take that back."""
    from distributed import Status

    dask_worker.status = Status[name]


@pytest.mark.slow
def test_ranks_save_and_leave_a_worker_that_is_about_to_end_and_use_it_again_if_it_stays(
    client, tmp_path
):
    first = min(workers_of(client))

    def retire():
        client.run(set_status, "closing_gracefully", workers=[first])
        threading.Timer(
            2.0, client.run, (set_status, "running"), {"workers": [first]}
        ).start()  # fmt: skip

    events = Events(at_saved=retire)
    assert run(Training(tmp_path, steps=80), client, events, ranks=2) == [80, 80]
    assert events.resumed == [(1, "1 worker left"), (2, "1 worker joined")]
    steps = [saved.step for saved in events.saved]
    assert steps == sorted(set(steps)), "a step was repeated"


@pytest.mark.slow
def test_a_worker_that_is_sent_sigterm_costs_no_step(tmp_path):
    """As a spot node or a pod that ends: ``dask worker`` closes its nanny, and that the worker."""
    import signal
    import subprocess

    from distributed import Client

    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with Client(n_workers=0, dashboard_address=None, host="127.0.0.1",
                set_as_default=False) as client:  # fmt: skip
        command = [sys.executable, "-m", "dask", "worker", client.scheduler.address, "--nthreads",
                   "1", "--host", "127.0.0.1", "--no-dashboard"]  # fmt: skip
        workers = [subprocess.Popen(command, **quiet) for _ in range(2)]
        try:
            client.wait_for_workers(2, timeout=60)
            events = Events(at_saved=lambda: workers[0].send_signal(signal.SIGTERM))
            began = time.monotonic()
            limits = RankLimits(rejoin_s=300)
            training = Training(tmp_path, steps=60)
            assert run(training, client, events, ranks=2, limits=limits) == [60]
            assert events.resumed == [(1, "1 worker left")]
            steps = [saved.step for saved in events.saved]
            assert steps == sorted(set(steps)), "a step was repeated"
            assert time.monotonic() - began < 200, "it waited for the worker to come back"
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()


class OneChannel:
    """A client whose workers hold the ranks of other runs."""

    def __init__(self, held):
        self._held = held

    def processing(self, addresses):
        return {one: [self._held[one]] if one in self._held else [] for one in addresses}


def test_only_running_workers_without_ranks_of_others_can_join():
    records = {
        "own": {"status": "running"}, "free": {"status": "running"},
        "closing": {"status": "closing_gracefully"}, "excluded": {"status": "running"},
        "others": {"status": "running"}, "busy": {"status": "running"},
    }  # fmt: skip
    held = {"others": ("overtile-ranks-0123-4", 1), "busy": ("segment-block", 0, 0, 0)}
    found = joinable(OneChannel(held), records, own=["own"], excluded={"excluded"})
    assert found == ["free", "busy"]


def test_workers_that_close_are_about_to_end_and_lost_ones_are_not_counted():
    states = ("running", "paused", "closing_gracefully", "closing")
    records = {state: {"status": state} for state in states}
    assert ending(records, [*states, "lost"]) == {"closing_gracefully", "closing"}
    assert ending(records, ["running"]) == set()


class Queue:
    """No worker within the first minute, then one of a job that waited in a queue."""

    def __init__(self):
        self.waits = []

    def __call__(self, client, *, wanted, within_s, **more):
        self.waits.append((wanted, within_s))
        return ["late worker"] if within_s > 60 else []


@pytest.mark.parametrize(("queue_s", "waits"), [(0, [(2, 60)]), (3600, [(2, 60), (1, 3600)])])
def test_jobs_that_wait_in_a_queue_are_waited_for_once_all_workers_have_left(
    queue_s, waits, monkeypatch
):
    queue, asked = Queue(), []
    monkeypatch.setattr(ranks, "wait_for_workers", queue)
    monkeypatch.setattr(ranks, "asking_for_a_worker", lambda client: nullcontext(asked.append(1)))
    run = ranks._Run(
        print, None, on_event=print, limits=RankLimits(queue_s=queue_s), stop=threading.Event()
    )
    if queue_s:
        assert run._workers_again(2, after="lost") == ["late worker"]
    else:
        with pytest.raises(RunError, match="0 of 1 workers are left after 60 s"):
            run._workers_again(2, after="lost")
    assert queue.waits == waits
    assert len(asked) == len(waits) - 1, "a task makes the cluster submit a job"


def test_the_one_worker_that_runs_is_used_where_all_that_joined_are_lost(monkeypatch):
    """A nanny restarts a worker at a new address: a group may consist of workers that joined."""
    there, gone = (RankWorker(address=name, device_units=0) for name in ("tcp://a:1", "tcp://b:1"))
    monkeypatch.setattr(
        workers_module, "running_workers",
        lambda client, excluded=(): [one for one in (there,) if one.address not in excluded],
    )  # fmt: skip
    run = ranks._Run(
        None, SimpleNamespace(), on_event=print, limits=RankLimits(), stop=threading.Event()
    )
    run._joined = frozenset({gone.address})
    workers, _ = run._next_group([gone], Lost("rank 0 was lost"))
    assert workers == [there]
