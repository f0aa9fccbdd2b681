"""What a job's script has started ends with it, also if it is killed and Slurm tracks nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.batch_jobs.end_with_script import VARIABLE, script_above

ROOT = Path(__file__).parents[3]
STARTED = """
import signal, sys, threading, time
from deploy.batch_jobs import end_with_script

def end(*_):
    print("ended", flush=True)
    sys.exit()

def note(number, _):
    print(signal.Signals(number).name, flush=True)

signal.signal(signal.SIGINT, {interrupt})
signal.signal(signal.SIGTERM, {terminate})
script = end_with_script.script_above()
threading.Thread(
    target=end_with_script.end_after, args=(script,),
    kwargs={{"check_every_s": 0.05, "between_s": 0.3}}, daemon=True,
).start()
print("runs", flush=True)
end_at = time.monotonic() + 60
while time.monotonic() < end_at:
    time.sleep(0.1)
print("was not ended")
"""


@pytest.mark.parametrize(
    ("interrupt", "terminate", "printed"),
    [
        ("end", "note", "ended\n"),
        ("note", "end", "SIGINT\nended\n"),
        ("note", "note", "SIGINT\nSIGTERM\n"),
        ("signal.SIG_IGN", "signal.SIG_IGN", ""),
    ],
)
def test_the_scheduler_of_a_script_that_is_killed_ends_with_it(interrupt, terminate, printed):
    """It closes if it can; one that ignores signals, or is stuck in one, is killed."""
    code = STARTED.format(interrupt=interrupt, terminate=terminate)
    script = subprocess.Popen(
        ["bash", "-c", f'export {VARIABLE}=$$; "$@" & wait', "bash", sys.executable, "-c", code],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert script.stdout.readline() == "runs\n"
    script.kill()
    assert script.wait() == -signal.SIGKILL
    assert script.stdout.read() == printed


@pytest.mark.parametrize("number", ["", "none", "1x", str(2**22 + 1)])
def test_a_number_of_no_process_above_is_not_watched(number, monkeypatch):
    """For example that of a script outside a container."""
    monkeypatch.setenv(VARIABLE, number)
    assert script_above() is None


def test_a_process_that_is_not_above_is_not_watched(monkeypatch):
    with subprocess.Popen(["sleep", "60"]) as beside:
        monkeypatch.setenv(VARIABLE, str(beside.pid))
        try:
            assert script_above() is None
        finally:
            beside.kill()
    monkeypatch.setenv(VARIABLE, str(os.getppid()))
    assert script_above().pid == os.getppid()
