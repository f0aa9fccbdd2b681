"""A command that is stopped says so in one line, whatever the stop meets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
THROUGH_C = """
import ctypes, os, signal, sys
from flows.cli import main as cli, {command} as command

RUN = b"import os, signal, time; os.kill(os.getpid(), signal.{signal}); time.sleep(10)"
run_string = ctypes.pythonapi.PyRun_String
run_string.restype = ctypes.py_object

def meets_a_stop(*args, **kwargs):
    try:
        run_string(RUN, 257, ctypes.py_object({{}}), ctypes.py_object({{}}))
    except KeyboardInterrupt as error:
        {then}

{place}
sys.exit(cli.main({arguments}))
"""
"""A command whose code in C is interrupted, as compiled modules are while they are imported."""


THEN = (
    "raise",
    "raise ImportError('initialization failed') from error",
    "pass\n    raise ImportError('a compiled module that forgets why')",
    "pass\n    exec('raise AttributeError(1)', {'__name__': 'half_imported'})",
)


@pytest.fixture
def stopped(tmp_path):
    """Return a function that runs such a command by python -m, and gives exit code and stderr."""

    def run(**parts):
        (tmp_path / "stopped.py").write_text(THROUGH_C.format(**parts))
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "stopped"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        return ended.returncode, ended.stderr

    return run


@pytest.mark.parametrize("then", THEN)
def test_sigterm_is_one_line_and_exit_code_1(then, stopped):
    said = stopped(
        command="weights", signal="SIGTERM", then=then, place="command.run = meets_a_stop",
        arguments=["weights", "demo"],
    )  # fmt: skip
    line = "overtile: stopped; what is done is kept: start the same command again to go on\n"
    assert said == (1, line)


@pytest.mark.parametrize("then", THEN)
def test_a_drain_before_the_first_block_is_one_line_and_exit_code_75(then, stopped):
    said = stopped(
        command="segment", signal="SIGUSR1", then=then,
        place="from flows.segmentation import run as doors; doors.run_segmentation = meets_a_stop",
        arguments=["segment", "in.zarr", "out.zarr", "--weights", "demo"],
    )  # fmt: skip
    line = "overtile: drained before the first block: start the same command again to go on\n"
    assert said == (75, line)


def test_a_drain_that_comes_while_its_signal_is_about_to_be_taken_is_a_drain(stopped):
    place = (
        "import threading; start = threading.Thread.start\n"
        "def start_and_meet(thread):\n"
        "    start(thread)\n"
        "    if thread.name == 'drain':\n"
        "        os.kill(os.getpid(), signal.SIGUSR1); __import__('time').sleep(10)\n"
        "threading.Thread.start = start_and_meet"
    )
    said = stopped(
        command="segment", signal="SIGUSR1", then="raise", place=place,
        arguments=["segment", "in.zarr", "out.zarr", "--weights", "demo"],
    )  # fmt: skip
    line = "overtile: drained before the first block: start the same command again to go on\n"
    assert said == (75, line)


def test_an_error_that_no_stop_caused_is_shown_whole(stopped):
    code, said = stopped(
        command="weights", signal="SIGTERM", then="pass",
        place="def broken(options):\n    raise ImportError('no such thing')\ncommand.run = broken",
        arguments=["weights", "demo"],
    )  # fmt: skip
    assert code == 1
    assert said.startswith("Traceback")
    assert said.endswith("ImportError: no such thing\n")


def test_an_error_while_a_run_is_stopped_is_shown_whole(stopped):
    code, said = stopped(
        command="weights", signal="SIGTERM", then="raise OSError('No space left') from error",
        place="command.run = meets_a_stop", arguments=["weights", "demo"],
    )  # fmt: skip
    assert code != 0
    assert said.endswith("OSError: No space left\n")


@pytest.mark.parametrize("then", THEN)
def test_a_training_that_is_stopped_says_what_is_kept_of_it(then, stopped):
    said = stopped(
        command="train", signal="SIGTERM", then=then, place="command._run = meets_a_stop",
        arguments=["train", "--volume", "in.zarr", "--labels", "l.zarr", "--out", "w.safetensors"],
    )  # fmt: skip
    line = "overtile: stopped before the first checkpoint, so nothing is kept yet"
    assert said == (1, f"{line}: start the same command again\n")
