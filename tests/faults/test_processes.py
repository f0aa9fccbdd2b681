"""Processes that are killed, stopped and continued: the same command ends with the same bytes."""

from __future__ import annotations

import os
import signal
import time

import pytest

from faults.kill_and_resume import play
from faults.laws import check_alone, check_same, check_words
from faults.separate_cluster import SeparateCluster
from faults.small import COMMANDS

BLOCKWISE = ("segment", "objects", "convert")
BEYOND_S = 4.0
SOON_LOST = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "2s"}
"""A worker counts as lost after two seconds, which a stop of four exceeds."""


def stopped(*pids):
    """Stop processes for longer than their heartbeat, then continue them."""
    for number, pause_s in ((signal.SIGSTOP, BEYOND_S), (signal.SIGCONT, 0)):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        time.sleep(pause_s)


@pytest.mark.faults
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_killed_and_started_again_ends_with_the_same_bytes(
    name, trial, fault_round
):
    number = trial.generator.randrange(10**6)
    one = play(number, seed=17, small=COMMANDS[name], place=trial.place, commands=trial.commands)
    assert one.outcome == "identical", f"{one.disturbances}: {one.problem}"
    for victim, _ in one.disturbances:
        trial.record(name, victim)


@pytest.mark.faults
@pytest.mark.parametrize("name", ["segment", "train"])
def test_a_driver_that_is_killed_while_it_writes_a_file_is_resumed(name, trial, fault_round):
    counter = trial.folder / "counter"
    counter.mkdir()
    number = trial.generator.randrange(40)
    fault = ("faults.inside:killed_at_write", {"counter": str(counter), "number": number})
    running = trial.start(name, faults=[fault])
    check_words(running.ended(), codes=(-signal.SIGKILL, 0))
    trial.completed(name, "driver killed while it writes")
    check_alone(running)


def test_a_worker_that_is_killed_while_it_starts_is_replaced(trial):
    counter = trial.folder / "counter"
    counter.mkdir()
    options = {"counter": str(counter), "times": 1}
    running = trial.start("convert", faults=[("faults.inside:worker_dies_at_start", options)])
    check_words(running.ended())
    assert len(list(counter.iterdir())) == 1, "no worker was killed"
    check_alone(running)
    trial.record("convert", "worker killed while it starts")


@pytest.mark.faults
@pytest.mark.parametrize("name", BLOCKWISE)
def test_each_worker_killed_in_turn_costs_no_voxel(name, trial, fault_round):
    killed = []

    def kill_each(running):
        for _ in range(2):
            workers = [pid for pid in running.workers() if pid not in killed]
            for pid in workers[:1]:
                killed.append(pid)
                os.kill(pid, signal.SIGKILL)
            time.sleep(trial.generator.uniform(0, 0.3))

    trial.disturbed(name, "each worker killed in turn", kill_each)


@pytest.mark.faults
@pytest.mark.parametrize("name", COMMANDS)
def test_a_worker_stopped_for_longer_than_its_heartbeat_costs_no_voxel(name, trial, fault_round):
    trial.disturbed(
        name, "worker stopped beyond its heartbeat",
        lambda running: stopped(*running.workers()[:1]), environment=SOON_LOST,
    )  # fmt: skip


@pytest.mark.faults
@pytest.mark.parametrize("name", COMMANDS)
def test_a_driver_stopped_for_longer_than_the_heartbeat_continues(name, trial, fault_round):
    trial.disturbed(
        name, "driver stopped beyond the heartbeat", lambda running: stopped(running.pid),
        environment=SOON_LOST,
    )  # fmt: skip


@pytest.fixture
def cluster(commands, tmp_path):
    separate = SeparateCluster(commands, tmp_path, environment=SOON_LOST)
    yield separate
    separate.close()


def on(cluster):
    """Return the options that replace the local workers of a command by a cluster."""
    return ["--cluster", str(cluster.file)]


def started(trial, name, cluster):
    """Start a command on a cluster."""
    small = COMMANDS[name]
    words = trial.place.words(small, trial.output(name))
    if "--workers" in words:
        at = words.index("--workers")
        del words[at : at + 2]
    return trial.commands.start([*words, *on(cluster)])


def completed(trial, name, cluster, fault, moment):
    """Start it again: it succeeds, with the bytes of an undisturbed run."""
    running = started(trial, name, cluster)
    check_words(running.ended())
    check_alone(running)
    small = COMMANDS[name]
    check_same(small, trial.output(name), trial.place.reference(small).content)
    trial.record(name, fault, moment)


@pytest.mark.faults
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("how", ["killed", "stopped beyond the heartbeat"])
def test_a_nanny_that_is_lost_costs_no_voxel(how, name, trial, cluster, fault_round):
    running = started(trial, name, cluster)
    moment = trial.at_a_moment(name, running)
    if how == "killed":
        cluster.replace_nanny(0)
    else:
        stopped(cluster.nannies[0].pid)
    check_words(running.ended())
    completed(trial, name, cluster, f"nanny {how}", moment)


@pytest.mark.faults
@pytest.mark.parametrize("name", COMMANDS)
def test_a_lost_scheduler_ends_the_run_with_one_line_and_a_new_one_resumes_it(
    name, trial, cluster, fault_round
):
    running = started(trial, name, cluster)
    moment = trial.at_a_moment(name, running)
    cluster.kill_scheduler()
    check_words(running.ended(), codes=(0, 1, 2))
    check_alone(running)
    cluster.restart()
    completed(trial, name, cluster, "scheduler killed", moment)


@pytest.mark.faults
@pytest.mark.parametrize("name", BLOCKWISE)
def test_a_stopped_scheduler_continues(name, trial, cluster, fault_round):
    running = started(trial, name, cluster)
    moment = trial.at_a_moment(name, running)
    stopped(cluster.scheduler.pid)
    check_words(running.ended())
    completed(trial, name, cluster, "scheduler stopped beyond the heartbeat", moment)
