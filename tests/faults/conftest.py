"""What the fault suite shares: commands, their undisturbed runs, seeds, and the record of rounds.

Each round follows from FAULT_SEED (random by default, and printed where a test fails) and from the
name of the test. FAULT_ROUNDS is how often each fault is tried (default 1), and FAULT_OUT names a
file to which every round is appended.
"""

from __future__ import annotations

import os
import random
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from faults.laws import check_alone, check_same, check_words
from faults.record import Recorded
from faults.reference import Place, drawn
from faults.small import COMMANDS

SEED = os.environ.setdefault("FAULT_SEED", str(random.SystemRandom().getrandbits(32)))
"""In the environment, so that the processes of pytest-xdist have the same one."""
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "1"))
MOST_TRIES = 20
"""How often a moment is drawn until the disturbance happens; a command may end before it."""


def pytest_generate_tests(metafunc):
    """Repeat every test that asks for a round."""
    if "fault_round" in metafunc.fixturenames:
        metafunc.parametrize("fault_round", range(ROUNDS), ids=lambda number: f"round{number}")


@pytest.fixture(scope="session")
def place(tmp_path_factory, commands):
    return Place(tmp_path_factory.mktemp("place"), commands)


class Trial:
    """One round of a test: a command, a fault at a random moment, and what follows."""

    def __init__(self, *, name, family, commands, place, folder):
        self.commands, self.place, self.folder = commands, place, folder
        self.family = family
        self.generator = random.Random(f"{SEED}/{name}")
        self.began, self.tries = time.monotonic(), 0
        self.shortest_s = float("inf")

    def small(self, name):
        return COMMANDS[name]

    def output(self, name):
        return self.folder / (f"again-{self.tries}" if self.tries else "") / COMMANDS[name].output

    def start(self, name, *, words=(), **options):
        """Start a command into the trial's folder."""
        small = COMMANDS[name]
        given = [*self.place.words(small, self.output(name)), *words]
        return self.commands.start(given, **options)

    def at_a_moment(self, name, running):
        """Wait for a random moment of the run; return it, or None if the command ended before."""
        moment, small = drawn(self.generator, COMMANDS[name]), COMMANDS[name]
        of = self.place.reference(small)
        of = replace(of, seconds=min(of.seconds, self.shortest_s))
        return moment if moment.reached(running, small, self.output(name), of) else None

    def disturbed(
        self, name, fault, disturb, *, codes=(0,), then=lambda: None, start=None, **options
    ):
        """Start a command, disturb it, put it right, and start it again: it is undisturbed.

        disturb: takes the running command; False says that nothing happened, as it ended before.
        Such a round does not count: another moment is drawn, with a fresh output. start: starts
        the command, if it is not to run as usual.
        """
        start = start or (lambda: self.start(name, **options))
        for _ in range(MOST_TRIES):
            running = start()
            moment = self.at_a_moment(name, running)
            happened = moment is not None and disturb(running) is not False
            ended = running.ended()
            check_words(ended, codes=codes if moment else (0,))
            check_alone(running)
            then()
            if moment is None:  # on a cluster that runs already it takes less than with workers
                self.shortest_s = min(self.shortest_s, ended.seconds)
            if happened:
                return self.completed(name, fault, moment, start=start)
            self.try_again()
        raise AssertionError(f"{name} ended {MOST_TRIES} times before the fault: {fault}")

    def try_again(self):
        """Forget a round in which nothing happened: the next one has a fresh output."""
        self.tries += 1
        self.output("convert").parent.mkdir()

    def completed(self, name, fault, moment=None, *, start=None, **options):
        """Start the command once more: it succeeds, and has the bytes of an undisturbed run."""
        running = start() if start else self.start(name, **options)
        check_words(running.ended())
        check_alone(running)
        small = COMMANDS[name]
        check_same(small, self.output(name), self.place.reference(small).content)
        self.record(name, fault, moment)

    def record(self, name, fault, moment=None, outcome="identical"):
        """Append the round to the file of the environment."""
        part = {} if moment is None else {"moment": moment.third}
        Recorded(
            family=self.family, fault=fault, command=name, outcome=outcome, seed=SEED,
            seconds=round(time.monotonic() - self.began, 1), **part,
        ).append()  # fmt: skip


@pytest.fixture
def trial(request, commands, place, tmp_path):
    print(f"FAULT_SEED={SEED}")  # pytest shows it where the test fails
    family = request.module.__name__.rpartition("test_")[2].replace("_", " ")
    return Trial(
        name=request.node.name, family=family, commands=commands, place=place, folder=tmp_path
    )
