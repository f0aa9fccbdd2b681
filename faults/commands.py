"""Real commands that tests start, watch, disturb and end, each with all of its processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OVERTILE = "faults.zygote:overtile"
SCHEDULER = "distributed.cli.dask_scheduler:main"
WORKER = "distributed.cli.dask_worker:main"
PROGRAM = "faults.zygote:run_program"
"""Runs a file of Python, the first word; the other words are its arguments."""

LIMIT_S = 240.0
"""A command that runs longer hangs. Undisturbed, those of the suite take seconds."""
END_S = 30.0
"""How long the processes of a command may take to end after it."""
POLL_S = 0.01

Fault = tuple[str, Mapping[str, Any]]
"""A function of :mod:`faults.inside` and its options, called in the process before the command."""


class HungError(AssertionError):
    """A command did not end in time."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended. code: its exit code, negative for a signal."""

    code: int
    text: str
    """What it wrote to standard error."""
    seconds: float

    @property
    def last_line(self) -> str:
        """The last line on standard error; nothing if there is none."""
        return (self.text.splitlines() or [""])[-1]


class Running:
    """A command that runs in its own session, with its workers."""

    def __init__(
        self, pid: int, poll: Callable[[], int | None], *, output: Path, errors: Path
    ) -> None:
        self.pid = pid
        self._poll = poll
        self._output, self._errors = output, errors
        self._began = time.monotonic()
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        if self._code is None:
            self._code = self._poll()
        return self._code

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return time.monotonic() - self._began

    @property
    def text(self) -> str:
        """What it has written to standard error so far."""
        return self._errors.read_text(errors="replace") if self._errors.exists() else ""

    @property
    def printed(self) -> str:
        """What it has written to standard output so far."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def ended(self, *, within_s: float = LIMIT_S) -> Ended:
        """Wait this long for its end. Raises HungError, with the stacks of its threads."""
        until = time.monotonic() + within_s
        while self.poll() is None:
            if time.monotonic() > until:
                self.signal(signal.SIGUSR2)  # the zygote's commands then write their stacks
                time.sleep(1)
                raise HungError(f"still running after {self.seconds:.0f} s:\n{self.text[-6000:]}")
            time.sleep(POLL_S)
        code = self.poll()
        assert code is not None
        return Ended(code, self.text, self.seconds)

    def signal(self, number: int) -> None:
        """Send a signal to the command itself."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def handles_stops(self) -> bool:
        """Return whether it has set its handlers; before that, Python itself is starting."""
        return handles(self.pid, signal.SIGTERM)

    def processes(self) -> dict[int, int]:
        """Return the processes of its session that have not ended, with their parents."""
        return session(self.pid)

    def workers(self) -> list[int]:
        """Return its worker processes: they are children of its fork server."""
        parents = self.processes()
        return sorted(p for p, of in parents.items() if parents.get(of) == self.pid)

    def kill(self) -> None:
        """Kill all of its processes at once."""
        for pid in (self.pid, *self.processes()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while self.poll() is None:
            time.sleep(POLL_S)

    def left(self, *, within_s: float = END_S) -> list[int]:
        """Return the processes that outlive the command by this time."""
        until = time.monotonic() + within_s
        while (left := list(self.processes())) and time.monotonic() < until:
            time.sleep(5 * POLL_S)
        return left


def handles(pid: int, number: int) -> bool:
    """Return whether a process handles or ignores a signal, whose default would end it."""
    try:
        status = Path("/proc", str(pid), "status").read_text()
    except OSError:  # it has ended
        return False
    masks = re.findall(r"^Sig(?:Cgt|Ign):\s*(\w+)$", status, re.MULTILINE)
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def session(number: int) -> dict[int, int]:
    """Return the processes of a session, with their parents; those that have ended are left out."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError, ValueError):
            stat = Path("/proc", name, "stat").read_text()
            state, parent, _, of = stat.rpartition(")")[2].split()[:4]
            if int(of) == number and state not in "ZX":
                found[int(name)] = int(parent)
    return found


class Commands:
    """Starts commands by a zygote; ends all of them on exit."""

    def __init__(self, folder: Path) -> None:
        """folder: takes the output files of the commands."""
        self._folder = folder
        self._count = 0
        self._lock = threading.Lock()
        self._started: list[Running] = []
        self._zygote: subprocess.Popen[str] | None = None

    def __enter__(self) -> Commands:
        return self

    def __exit__(self, *_: object) -> None:
        for running in self._started:
            if running.poll() is None or running.processes():
                running.kill()
        if self._zygote is not None:
            assert self._zygote.stdin is not None
            self._zygote.stdin.close()
            self._zygote.wait(timeout=20)

    def start(
        self, words: Sequence[str], *, call: str = OVERTILE, folder: Path | None = None,
        environment: Mapping[str, str] | None = None, faults: Sequence[Fault] = (),
        terminal: str | None = None,
    ) -> Running:  # fmt: skip
        """Start a command, forked from the zygote.

        environment: added to this process's. faults: what happens inside the command and its
        workers. terminal: takes standard error.
        """
        output, errors = self._files()
        request = {
            "call": call, "words": list(map(str, words)), "folder": str(folder or self._folder),
            "environment": self._environment(environment), "faults": list(faults),
            "stdout": str(output), "stderr": terminal or str(errors),
        }  # fmt: skip
        pid = self._ask(request)["pid"]

        def poll() -> int | None:
            code: int | None = self._ask({"poll": pid})["code"]
            return code

        return self._noted(Running(pid, poll, output=output, errors=errors))

    def execute(self, words: Sequence[str]) -> Running:
        """Start a command as a shell does: in a new Python, which imports everything."""
        output, errors = self._files()
        environment = {**self._environment(None), "PYTHONPATH": str(ROOT)}
        with output.open("w") as out, errors.open("w") as err:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "flows.cli", *words], cwd=self._folder,
                env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                start_new_session=True,
            )  # fmt: skip
        return self._noted(Running(process.pid, process.poll, output=output, errors=errors))

    def forget(self) -> None:
        """Forget the commands that have ended with all of their processes, and their output."""
        for one in list(self._started):
            if one.poll() is not None and not one.processes():
                self._ask({"reap": one.pid})
                self._started.remove(one)
        if not self._started:
            for path in self._folder.glob("*.std*"):
                path.unlink()

    def _environment(self, more: Mapping[str, str] | None) -> dict[str, str]:
        """Return the environment of a command; what it leaves when killed is in our folder."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        ours = {"COLUMNS": "1000", "OMP_NUM_THREADS": "1", "TMPDIR": str(self._folder)}
        return {**kept, **ours, **(more or {})}

    def _noted(self, running: Running) -> Running:
        self._started.append(running)
        return running

    def _files(self) -> tuple[Path, Path]:
        with self._lock:
            self._count += 1
            return tuple(self._folder / f"{self._count}.std{name}" for name in ("out", "err"))  # type: ignore[return-value]

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            zygote = self._zygote = self._zygote or _zygote()
            assert zygote.stdin is not None
            assert zygote.stdout is not None
            zygote.stdin.write(json.dumps(request) + "\n")
            zygote.stdin.flush()
            answer: dict[str, Any] = json.loads(zygote.stdout.readline())
            return answer


def _zygote() -> subprocess.Popen[str]:
    """Start the zygote, and wait until it has imported everything."""
    root = str(ROOT)
    code = "import sys; from faults.zygote import main; sys.exit(main())"
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {
        **os.environ, **threads, "PYTHONHASHSEED": "6640", "PYTHONPATH": root,
        "JE_ARROW_MALLOC_CONF": "background_thread:false",  # a thread would not survive a fork
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    json.loads(process.stdout.readline())
    return process
