"""Background processes: started by one command, found and stopped by later ones.

    FOLDER/NAME.json    its record: the process id, and what its kind adds
    FOLDER/NAME.lock    locked as long as the process runs
    FOLDER/NAME.log     its output

The lock, not the process id, shows whether it runs: a process id may have been given to another
process since.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

STOP_S, KILL_S = 30.0, 10.0
POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """One background process, running or not."""

    folder: Path
    name: str

    @property
    def log(self) -> Path:
        """The file of its output."""
        return self.folder / f"{self.name}.log"

    def start(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command in its own session, with an empty log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock.open("w") as lock, self.log.open("wb") as log:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the new process inherits it
            return subprocess.Popen(  # noqa: S603  our own and Prefect's commands
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, pass_fds=[lock.fileno()],
            )  # fmt: skip

    def wait_until(
        self, ready: Callable[[], object], process: subprocess.Popen[bytes], *, within_s: float
    ) -> bool:
        """Return whether the process is ready in time; if not, end it."""
        until = time.monotonic() + within_s
        while not ready():
            if process.poll() is not None or time.monotonic() > until:
                self._end(process)
                return False
            time.sleep(POLL_S)
        return True

    def is_running(self) -> bool:
        """Return whether the process runs, on this machine."""
        try:
            with self._lock.open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def read(self) -> dict[str, Any] | None:
        """Return the record; None if there is none."""
        try:
            record: dict[str, Any] = json.loads(self._record.read_text())
        except (OSError, ValueError):
            return None
        return record

    def write(self, record: Mapping[str, Any]) -> None:
        """Replace the record, atomically. It must contain the ``pid``."""
        part = self._record.with_suffix(".part")
        part.write_text(json.dumps(record, indent=2) + "\n")
        os.replace(part, self._record)

    def stop(self) -> bool:
        """Stop the process and all of its session; return whether it was running."""
        record = self.read()
        if record is None or not self.is_running():
            return False
        with suppress(ProcessLookupError):
            os.kill(record["pid"], signal.SIGTERM)
        self._wait_for_end(within_s=STOP_S)
        with suppress(ProcessLookupError):
            os.killpg(record["pid"], signal.SIGKILL)
        self._wait_for_end(within_s=KILL_S)
        self._record.unlink(missing_ok=True)
        return True

    def last_line(self) -> str:
        """Return the last line of the log; nothing if there is none."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return next(filter(None, map(str.strip, reversed(lines))), "").removeprefix("overtile: ")

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(KILL_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _wait_for_end(self, *, within_s: float) -> None:
        until = time.monotonic() + within_s
        while self.is_running() and time.monotonic() < until:
            time.sleep(POLL_S)

    @property
    def _record(self) -> Path:
        return self.folder / f"{self.name}.json"

    @property
    def _lock(self) -> Path:
        return self.folder / f"{self.name}.lock"


def now_text() -> str:
    """Return the current time, for a record or a log."""
    return datetime.now(UTC).isoformat(timespec="seconds")
