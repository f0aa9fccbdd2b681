"""One command that is started twice at once: at least one ends its work, and no byte differs."""

from __future__ import annotations

import time

import pytest

from faults.laws import check_alone, check_same, check_words
from faults.small import COMMANDS

FAST = "segment"


@pytest.mark.parametrize(
    "name",
    [name if name == FAST else pytest.param(name, marks=pytest.mark.faults) for name in COMMANDS],
)
def test_two_starts_within_milliseconds_end_with_the_same_bytes(name, trial, fault_round):
    pause_s = trial.generator.choice((0.0, 0.001, 0.01, 0.1))
    first = trial.start(name)
    time.sleep(pause_s)
    second = trial.start(name)
    ended = [one.ended() for one in (first, second)]
    for one in ended:
        check_words(one, codes=(0, 1, 2))
    for one in (first, second):
        check_alone(one)
    assert any(one.code == 0 for one in ended), [one.text[-1500:] for one in ended]
    small = COMMANDS[name]
    check_same(small, trial.output(name), trial.place.reference(small).content)
    trial.completed(name, "two starts at once")
