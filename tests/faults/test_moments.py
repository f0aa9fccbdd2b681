"""A moment of the suite is one at which a command can answer."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from faults.commands import Running, handles
from faults.reference import Moment, Reference
from faults.small import COMMANDS

LATE = (
    "import signal, time; time.sleep(0.5); signal.signal(signal.SIGTERM, lambda *_: None); "
    "time.sleep(60)"
)
HALF = Reference(content={}, seconds=0.1, files=2, pages=1)


@pytest.mark.parametrize("by", ["files", "time"])
def test_a_moment_is_not_before_the_command_handles_signals(by, tmp_path):
    """One that resumes has its files at once, while Python is still starting."""
    for number in range(2):
        (tmp_path / str(number)).touch()
    process = subprocess.Popen([sys.executable, "-S", "-c", LATE])
    began = time.monotonic()
    running = Running(process.pid, process.poll, output=tmp_path / "none", errors=tmp_path / "none")
    try:
        assert Moment(by, 0.5).reached(running, COMMANDS["segment"], tmp_path, HALF)
        assert handles(process.pid, signal.SIGTERM)
        assert time.monotonic() - began >= 0.4
    finally:
        process.kill()
        process.wait()
