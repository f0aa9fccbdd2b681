"""A signal at any moment, from the start of Python to its end: one line, and nothing lost."""

from __future__ import annotations

import pytest

from faults.reference import Moment
from faults.signal_sweep import SWEPT, Sweep

pytestmark = pytest.mark.faults
MOMENTS = 8


@pytest.fixture(scope="module")
def sweeps(place, commands):
    """Return the sweep of each command; its undisturbed run is made once."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = Sweep(SWEPT[name], place=place, commands=commands)
        return made[name]

    return of


@pytest.mark.parametrize("name", SWEPT)
@pytest.mark.parametrize("signal", ["TERM", "INT", "HUP", "USR1"])
def test_a_signal_at_any_moment_is_one_line_and_the_command_can_be_started_again(
    signal, name, trial, sweeps, fault_round
):
    sweep = sweeps(name)
    for number in range(MOMENTS):
        share = (number + trial.generator.random()) / MOMENTS
        one = sweep.send(signal, share * 1.02 * sweep.seconds)
        assert not one.problem, one
        if one.at_s is not None:
            trial.record(name, f"SIG{signal}", Moment("time", share), outcome=one.outcome)
