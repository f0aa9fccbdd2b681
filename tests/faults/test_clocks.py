"""Clocks that jump: the run goes on, and ends with the same bytes."""

from __future__ import annotations

import time

import pytest

from faults.laws import check_alone, check_same, check_words
from faults.reference import Moment
from faults.small import COMMANDS

HOUR_S = 3600.0


FAST = ("segment", -HOUR_S)
"""Did not end in four minutes while Dask's messages waited for the wall clock."""
CASES = [(name, by_s) for by_s in (-HOUR_S, -5.0, 5.0, HOUR_S) for name in COMMANDS]


@pytest.mark.parametrize(
    ("name", "by_s"),
    [case if case == FAST else pytest.param(*case, marks=pytest.mark.faults) for case in CASES],
)
def test_a_clock_that_is_set_in_mid_run_costs_no_voxel_and_little_time(
    name, by_s, trial, fault_round
):
    of, small = trial.place.reference(COMMANDS[name]), COMMANDS[name]
    share = trial.generator.uniform(0.2, 0.9)
    fault = ("faults.clocks:clock_jumps", {"after_s": share * of.seconds, "by_s": by_s})
    began = time.monotonic()
    running = trial.start(name, faults=[fault])
    ended = running.ended()
    seconds = time.monotonic() - began
    check_words(ended)
    check_alone(running)
    check_same(small, trial.output(name), of.content)
    print(f"{name} {by_s:+.0f} s at {share:.0%}: {seconds:.1f} s, undisturbed {of.seconds:.1f} s")
    trial.record(name, f"clock set by {by_s:+,.0f} s", Moment("time", share))
