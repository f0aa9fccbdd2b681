"""Clocks that jump: the run goes on, and ends with the same bytes."""

from __future__ import annotations

import time

import pytest

from faults.laws import check_alone, check_same, check_words
from faults.reference import Moment
from faults.small import COMMANDS

HOUR_S = 3600.0
TRIES = 4

FAST = ("segment", -HOUR_S)
"""Did not end in four minutes while Dask's messages waited for the wall clock."""
CASES = [(name, by_s) for by_s in (-HOUR_S, -5.0, 5.0, HOUR_S) for name in COMMANDS]


@pytest.mark.parametrize(
    ("name", "by_s"),
    [case if case == FAST else pytest.param(*case, marks=pytest.mark.faults) for case in CASES],
)
def test_a_clock_that_is_set_in_mid_run_costs_no_voxel(name, by_s, trial, fault_round):
    of, small = trial.place.reference(COMMANDS[name]), COMMANDS[name]
    takes_s = of.seconds  # the reference may have compiled what it ran
    for _ in range(TRIES):
        share = trial.generator.uniform(0.2, 0.9)
        after_s, began = share * takes_s, time.monotonic()
        fault = ("faults.clocks:clock_jumps", {"after_s": after_s, "by_s": by_s})
        running = trial.start(name, faults=[fault])
        ended = running.ended()
        check_words(ended)
        check_alone(running)
        check_same(small, trial.output(name), of.content)
        took_s = time.monotonic() - began
        if took_s > after_s:
            return trial.record(name, f"clock set by {by_s:+,.0f} s", Moment("time", share))
        takes_s = min(takes_s, took_s)
        trial.try_again()
    raise AssertionError(f"{name} ended {TRIES} times before the clock was set")
