"""The thread that waits for SIGUSR1 takes nothing else, and takes nothing for it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from flows.signals.drain import drain_on_signal
from flows.signals.stop import STOPS

ROOT = Path(__file__).parents[3]
SHOWN = Path("/proc/self/task")


@pytest.mark.skipif(not SHOWN.exists(), reason="this system does not show the masks of threads")
def test_the_thread_that_waits_for_a_drain_takes_no_stop():
    """A stop that another thread takes does not wake the main thread, whose wait may be endless."""
    with drain_on_signal():
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "drain"]
        status = SHOWN / str(thread.native_id) / "status"
        until = time.monotonic() + 20
        while not (blocked := blocked_in(status)) and time.monotonic() < until:
            time.sleep(0.01)
    assert blocked == {signal.SIGALRM, *STOPS}


PAUSED = """
import sys, time
from types import SimpleNamespace
from flows.signals.drain import drain_on_signal

with drain_on_signal() as drain:
    drain.begin(SimpleNamespace(drain=lambda: print("drained", flush=True)))
    print("waits", flush=True)
    sys.stdin.readline()
    time.sleep(0.5)
"""


def test_a_pause_is_no_drain():
    """After it, sigtimedwait of CPython 3.11 to 3.13 returns a signal that never came."""
    with subprocess.Popen(
        [sys.executable, "-c", PAUSED], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "waits\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(1)
        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate("\n", timeout=50)
    assert (said, process.returncode) == ("", 0)


def blocked_in(status):
    """Return the signals that a thread blocks, less SIGUSR1."""
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("SigBlk:")]
    mask = int(line.split()[1], 16)
    return {number for number in signal.valid_signals() if mask >> (number - 1) & 1} - {
        signal.SIGUSR1
    }
