"""Processes that are killed, stopped and continued: the same command ends with the same bytes."""

from __future__ import annotations

import re
import signal
import time

import pytest

from faults.kill_and_resume import play
from faults.laws import check_alone, check_same, check_words
from faults.reference import Moment
from faults.small import COMMANDS
from faults.standing_still import NAMED_S, sent, silent_lines, until

BLOCKWISE = ("segment", "objects", "convert")
PAUSE_S = 4.0
MOST_TRIES = 20
TO_THE_END_S = 45.0
"""What a run may take once others have a stopped worker's blocks; an idle machine needs seconds."""


def a_worker(running, *, but=()):
    """Wait for a worker of a command and return it; None if the command ended before."""
    return until(lambda: next((w for w in running.workers() if w not in but), None), running)


def paused(pid):
    """Stop a process for some seconds, and continue it; return whether it was there."""
    was_there = sent(signal.SIGSTOP, pid)
    time.sleep(PAUSE_S)
    sent(signal.SIGCONT, pid)
    return was_there


@pytest.mark.faults
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_killed_and_started_again_ends_with_the_same_bytes(
    name, trial, fault_round
):
    for _ in range(MOST_TRIES):  # a round whose first moment comes too late disturbs nothing
        number, small = trial.generator.randrange(10**6), COMMANDS[name]
        one = play(number, seed=17, small=small, place=trial.place, commands=trial.commands)
        assert one.outcome == "identical", f"{one.disturbances}: {one.problem}"
        if one.disturbances:
            break
    assert one.disturbances, "nothing happened"
    for victim, when in one.disturbances:
        share, _, by = when.partition("% of the ")
        trial.record(name, victim, Moment(by, float(share) / 100))


@pytest.mark.faults
@pytest.mark.parametrize("name", ["segment", "train"])
def test_a_driver_that_is_killed_while_it_writes_a_file_is_resumed(name, trial, fault_round):
    counter = trial.folder / "counter"
    counter.mkdir()
    number = 40
    for _ in range(MOST_TRIES):  # it may rename fewer files than the number
        number = trial.generator.randrange(max(1, number))
        fault = ("faults.inside:killed_at_write", {"counter": str(counter), "number": number})
        trial.try_again()
        running = trial.start(name, faults=[fault])
        check_words(running.ended(), codes=(-signal.SIGKILL, 0))
        check_alone(running)
        if any(counter.iterdir()):
            break
    assert any(counter.iterdir()), "nothing happened"
    trial.completed(name, "driver killed while it writes")


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
@pytest.mark.parametrize("name", COMMANDS)
def test_each_worker_killed_in_turn_costs_no_voxel(name, trial, fault_round):
    def kill_each(running):
        killed = []
        for _ in range(2):  # of a training: its worker, and the one that replaces it
            pid = a_worker(running, but=killed)
            if not pid or not sent(signal.SIGKILL, pid):
                return False
            killed.append(pid)
            time.sleep(trial.generator.uniform(0, 0.3))
        return True

    trial.disturbed(name, "each worker killed in turn", kill_each)


@pytest.mark.faults
@pytest.mark.parametrize("name", COMMANDS)
def test_a_worker_stopped_for_seconds_costs_no_voxel(name, trial, fault_round):
    """For less than overtile waits: it goes on with its work."""
    trial.disturbed(
        name, f"worker stopped for {PAUSE_S:.0f} s and continued",
        lambda running: bool(pid := a_worker(running)) and paused(pid),
    )  # fmt: skip


@pytest.mark.faults
@pytest.mark.parametrize("name", BLOCKWISE)
def test_a_worker_stopped_for_ever_is_named_within_a_minute_and_others_do_its_blocks(
    name, trial, fault_round
):
    """With the limits of the product, on the workers of a command, which ends them all."""

    def stop(running):
        if not (pid := a_worker(running)) or not sent(signal.SIGSTOP, pid):
            return False
        if not until(lambda: silent_lines(running.text), running, within_s=NAMED_S):
            return False  # it had no block, and nothing waited for it
        ended = running.ended(within_s=TO_THE_END_S)
        assert ended.code == 0, ended.text
        (line,) = silent_lines(ended.text)
        assert re.match(r"worker \S+ on 127\.0\.0\.1 has been silent for \d+ s, ", line), line
        assert line.endswith("its process is stopped; its work goes to other workers"), line
        check_alone(running)
        small = COMMANDS[name]
        check_same(small, trial.output(name), trial.place.reference(small).content)
        return True

    trial.disturbed(name, "worker stopped and never continued", stop)


@pytest.mark.faults
@pytest.mark.parametrize("name", COMMANDS)
def test_a_driver_stopped_for_seconds_continues(name, trial, fault_round):
    trial.disturbed(
        name, f"driver stopped for {PAUSE_S:.0f} s and continued",
        lambda running: running.poll() is None and paused(running.pid),
    )  # fmt: skip
