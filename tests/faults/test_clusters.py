"""A scheduler, nannies and workers that are lost, on a cluster that the command did not start.

Dask counts a worker as lost after its time to live, but not before ten heartbeats have failed: with
``LOST_SOON`` five seconds, and not five minutes. overtile itself waits for ten seconds at least.
"""

from __future__ import annotations

import signal
import time

import numpy as np
import pytest
import zarr

from faults.commands import LIMIT_S
from faults.laws import check_alone, check_same, check_words
from faults.separate_cluster import SeparateCluster
from faults.small import COMMANDS
from faults.standing_still import HELD, RELEASE, sent, silent_lines, stopped_worker, until, worked

pytestmark = pytest.mark.faults
LOST_SOON = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "2s"}
BEYOND_S = 5.0 + 3
PAUSE_S = 4.0
BY = {"killed": signal.SIGKILL, "terminated": signal.SIGTERM}
BLOCK_TASKS = {
    "segment": "pipeline.segmentation.engines.block:segment_block",
    "convert": "pipeline.conversion.block:convert_block",
    "objects": "pipeline.objects.tasks.tasks:label",
}
GRIDS = {"segment": (2, 2, 6), "convert": (2, 2, 3), "objects": (2, 2, 3)}
DONE = (1, 4)
"""States of a block in the ledger: done; of objects, labelled."""


@pytest.fixture
def cluster(commands, tmp_path):
    separate = SeparateCluster(commands, tmp_path, environment=LOST_SOON)
    yield separate
    separate.close()


def disturbed(trial, name, cluster, fault, disturb, **options):
    """Start a command on a cluster and disturb the cluster; see Trial.disturbed."""

    def disturb_if_it_runs(running):
        return running.poll() is None and disturb(running) is not False

    start = starting(trial, name, cluster)
    trial.disturbed(name, fault, disturb_if_it_runs, start=start, **options)


def starting(trial, name, cluster):
    """Return what starts a command on a cluster instead of its own workers."""

    def start():
        words = trial.place.words(COMMANDS[name], trial.output(name))
        if "--workers" in words:
            at = words.index("--workers")
            del words[at : at + 2]
        return trial.commands.start([*words, "--cluster", str(cluster.file)])

    return start


def a_worker(trial, cluster, running):
    """Wait for a random worker that has registered; None if the command ended before."""

    def registered():
        return [pid for pid in cluster.workers() if cluster.address(pid)]

    workers = until(registered, running)
    return trial.generator.choice(workers) if workers else None


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("how", BY)
def test_a_worker_of_a_cluster_that_ends_costs_no_voxel(how, name, trial, cluster, fault_round):
    def end(running):
        pid = a_worker(trial, cluster, running)
        return pid is not None and sent(BY[how], pid)

    disturbed(trial, name, cluster, f"worker of a cluster {how}", end)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_worker_that_its_scheduler_counts_as_lost_and_that_continues_costs_no_voxel(
    name, trial, cluster, fault_round
):
    """Its nanny restarts it; until then it may do the blocks that are given to others."""

    def lose(running):
        if (pid := a_worker(trial, cluster, running)) is None:
            return False
        address = cluster.address(pid)
        if not sent(signal.SIGSTOP, pid):
            return False
        was_lost = until(lambda: address in cluster.lost(), running)
        sent(signal.SIGCONT, pid)
        return bool(was_lost)

    disturbed(trial, name, cluster, "worker stopped until its scheduler counts it as lost", lose)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("how", BY)
def test_a_nanny_that_ends_costs_no_voxel(how, name, trial, cluster, fault_round):
    disturbed(
        trial, name, cluster, f"nanny {how}", lambda _: cluster.replace_nanny(0, BY[how])
    )  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_a_nanny_stopped_for_seconds_costs_no_voxel(name, trial, cluster, fault_round):
    def pause(running):
        pid = cluster.nannies[0].pid
        was_there = sent(signal.SIGSTOP, pid)
        time.sleep(PAUSE_S)
        return sent(signal.SIGCONT, pid) and was_there

    disturbed(trial, name, cluster, f"nanny stopped for {PAUSE_S:.0f} s and continued", pause)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("how", BY)
def test_a_lost_scheduler_ends_the_run_with_one_line_and_a_new_one_resumes_it(
    how, name, trial, cluster, fault_round
):
    disturbed(
        trial, name, cluster, f"scheduler {how}", lambda _: cluster.end_scheduler(BY[how]),
        codes=(0, 1, 2), then=cluster.restart,
    )  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_a_scheduler_stopped_until_it_counts_all_workers_as_lost_continues(
    name, trial, cluster, fault_round
):
    """It has seen no heartbeat meanwhile, so that it has all workers restarted at once."""

    def pause(running):
        pid, before = cluster.scheduler.pid, len(cluster.lost())
        sent(signal.SIGSTOP, pid)
        time.sleep(BEYOND_S)
        sent(signal.SIGCONT, pid)
        return bool(until(lambda: len(cluster.lost()) > before + 1, running))

    fault = "scheduler stopped until it counts all workers as lost"
    disturbed(trial, name, cluster, fault, pause)


def recorded(output, block):
    """Return whether the ledger has a block as done; of objects, as labelled."""
    if not (output / "run/done/zarr.json").exists():
        return False
    return zarr.open_array(output / "run/done", mode="r")[tuple(block)] in DONE


@pytest.mark.parametrize("name", BLOCK_TASKS)
@pytest.mark.parametrize("wakes", ["during the run", "after the run"])
def test_a_worker_that_wakes_after_others_have_done_its_block_changes_nothing(
    wakes, name, trial, commands, tmp_path, fault_round
):
    """With the limits of the product: it stands still with its nanny, as a suspended job does."""
    notes, output, small = tmp_path / "notes", trial.output(name), COMMANDS[name]
    notes.mkdir()
    first = list(np.ndindex(GRIDS[name]))[: np.prod(GRIDS[name]) // 2]  # another one comes later
    block = trial.generator.choice(first)
    options = {
        "folder": str(notes), "where": BLOCK_TASKS[name], "stop": block,
        "hold": wakes == "during the run",
    }  # fmt: skip
    faults = [("faults.standing_still:stands_still", options)]
    cluster = SeparateCluster(commands, tmp_path, nannies=3, faults=faults)
    try:
        start = starting(trial, name, cluster)
        running = start()
        woken = until(lambda: stopped_worker(notes), running, within_s=LIMIT_S)
        assert woken, running.ended().text
        nanny = cluster.nanny_of(woken)
        nanny.signal(signal.SIGSTOP)
        assert until(lambda: silent_lines(running.text), running), "it is not named"
        assert until(lambda: recorded(output, block)), "nobody else does its block"
        if wakes == "after the run":
            check_words(running.ended())
        else:
            assert (notes / HELD).exists(), "the run may have ended already"
        assert [one.pid == woken for one in worked(notes, block) if one.ended_s] == [False]
        sent(signal.SIGCONT, woken, nanny.pid)
        until(lambda: all(one.ended_s for one in worked(notes, block)))
        (notes / RELEASE).touch()
        check_words(running.ended())
        late, retry = worked(notes, block)
        assert late.pid == woken
        assert late.ended_s > retry.ended_s
        (line,) = silent_lines(running.text)
        assert line.endswith("and so is its nanny; its work goes to other workers"), line
        check_alone(running)
        check_same(small, output, trial.place.reference(small).content)
        trial.completed(name, f"worker stopped in a block, wakes {wakes}", start=start)
    finally:
        cluster.close()
