"""Signals before the first line of a command, and after its last one: never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from faults.commands import handles

ROOT = Path(__file__).parents[3]
COMMAND = """
import atexit, os, signal, sys, threading, time
from flows.cli import entry

def meet(kill=os.kill, pid=os.getpid(), number=signal.{signal}, sleep=time.sleep):
    kill(pid, number)
    sleep(0.1)

class AtItsEnd:
    def __del__(self, meet=meet):
        meet()

class AtTheImportOf:
    def __init__(self, name):
        self.name = name
    def find_spec(self, name, *rest):
        if name == self.name:
            meet()

{place}
sys.argv = ["overtile", *{arguments}]
code = entry.main()
{after}
sys.exit(code)
"""
"""A command that sends itself a signal at a place."""
AT_THE_END = {
    "a thread": "threading.Thread(target=lambda: (time.sleep(0.3), meet())).start()",
    "an exit function": "atexit.register(meet)",
    "the end of its modules": "sys.modules['__main__'].kept = AtItsEnd()",
}
STOPPED = "overtile: stopped\n"
SLEEPS = """
import types
def run(options):
    time.sleep(60)
weights = types.SimpleNamespace(add_arguments=lambda parser: parser.add_argument("it"), run=run)
sys.modules["flows.cli.weights"] = weights
"""
"""Stands for a command that takes long once it is imported."""
DRAINS = """
import types
def run(options):
    from flows.signals.drain import drain_on_signal
    with drain_on_signal():
        {then}
segment = types.SimpleNamespace(add_arguments=lambda parser: None, run=run)
sys.modules["flows.cli.segment"] = segment
"""
"""Stands for one that drains."""
DRAINED = "overtile: drained before the first block: start the same command again to resume\n"


@pytest.fixture
def ran(tmp_path):
    """Return a function that runs such a command; it returns its exit code and both outputs."""

    def run(place, *, signal="SIGTERM", arguments=("weights", "demo"), after=""):
        code = COMMAND.format(signal=signal, place=place, arguments=list(arguments), after=after)
        ended = subprocess.run(
            [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True,
            timeout=100, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        return ended.returncode, ended.stdout, ended.stderr

    return run


def ending(how, then=""):
    return (
        "from flows.cli import weights\n"
        f"def run(options):\n    print('the result')\n    {AT_THE_END[how]}\n    {then}\n"
        "weights.run = run"
    )


@pytest.mark.parametrize("how", AT_THE_END)
@pytest.mark.parametrize(
    "signal", ["SIGTERM", *(pytest.param(n, marks=pytest.mark.slow) for n in ("SIGINT", "SIGHUP"))]
)
def test_a_stop_after_the_last_line_changes_nothing(signal, how, ran):
    assert ran(ending(how), signal=signal) == (0, "the result\n", "")


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT"])
def test_a_stop_on_the_way_from_the_command_to_its_end_changes_nothing(signal, ran):
    place = "from flows.cli import weights; weights.run = lambda options: print('the result')"
    assert ran(place, signal=signal, after="meet()") == (0, "the result\n", "")


def test_a_stop_after_the_last_line_of_a_refusal_keeps_its_exit_code(ran):
    refuses = "from pipeline.base.errors import PlanError; raise PlanError('no')"
    place = ending("an exit function", then=refuses)
    assert ran(place) == (2, "the result\n", "overtile: no\n")


def test_a_drain_after_the_last_line_changes_nothing(ran):
    place = DRAINS.format(then="print('the result'); atexit.register(meet)")
    said = ran(place, signal="SIGUSR1", arguments=["segment"], after="meet()")
    assert said == (0, "the result\n", "")


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT"])
def test_a_stop_during_the_first_imports_is_one_line(signal, ran):
    place = f"{SLEEPS}sys.meta_path.insert(0, AtTheImportOf('flows.cli.parser'))"
    assert ran(place, signal=signal) == (1, "", STOPPED)


def test_a_stop_before_the_first_imports_is_one_line(ran):
    place = "kept = entry._command; entry._command = lambda: (meet(), kept())[1]"
    assert ran(place) == (1, "", STOPPED)


def test_a_drain_during_the_first_imports_is_a_drain(ran):
    meets = "sys.meta_path.insert(0, AtTheImportOf('flows.cli.parser'))"
    place = DRAINS.format(then="time.sleep(60)") + meets
    assert ran(place, signal="SIGUSR1", arguments=["segment"]) == (75, "", DRAINED)


def test_a_command_that_cannot_drain_ignores_sigusr1(ran):
    place = (
        "from flows.cli import weights\n"
        "weights.run = lambda options: (meet(), print('the result'), atexit.register(meet))"
    )
    assert ran(place, signal="SIGUSR1") == (0, "the result\n", "")


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads Linux's /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_from_the_moment_on_that_a_command_handles_one_stop_all_are_one_line(number, tmp_path):
    code = COMMAND.format(signal="SIGTERM", place=SLEEPS, arguments=["weights", "demo"], after="")
    run = subprocess.Popen(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, text=True, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    while not handles(run.pid, signal.SIGTERM):
        assert run.poll() is None
    run.send_signal(number)
    _, said = run.communicate(timeout=60)
    assert (run.returncode, said) == (1, STOPPED)
