"""Background processes: started by one command, found and stopped by later ones.

    FOLDER/NAME.json    its record: its identity, and what its kind adds
    FOLDER/NAME.lock    locked as long as the process runs
    FOLDER/NAME.log     its output

The lock shows whether it runs, on any machine that shares the folder; but not all file systems
share locks between machines. The identity (see identity.py) shows whether it runs on this one.
Nothing is signalled, replaced or started anew unless both allow it.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

from pipeline.base.errors import ClusterError
from pipeline.base.json_text import json_value

from .identity import ProcessIdentity, boot_id, identify, read_record
from .limits import explained_limits
from .listeners import user_name
from .state_folder import explained_state, make_state_folder

STOP_S, KILL_S = 30.0, 10.0
POLL_S = 0.1
LOCK_TRIES = 5
Where: TypeAlias = Literal["here", "elsewhere", "ended"]
"""A process runs here; or it runs, or may run, where this command cannot reach it; or it ended."""


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
        """Start a command in its own session, with an empty log and no record.

        Raises ClusterError if it runs already, or the folder or a limit forbids it.
        """
        make_state_folder(self.folder)
        with explained_state(self.folder), self._lock.open("a") as lock:
            self._acquire(lock)  # the new process inherits it
            self._record.unlink(missing_ok=True)
            with self.log.open("wb") as log, explained_limits(f"start the {self.name}"):
                return subprocess.Popen(  # noqa: S603  our own and Prefect's commands
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True, pass_fds=[lock.fileno()],
                )  # fmt: skip

    def wait_until(
        self, ready: Callable[[], object], process: subprocess.Popen[bytes], *, within_s: float
    ) -> bool:
        """Return whether the process is ready in time; if not, or when interrupted, end it."""
        until = time.monotonic() + within_s
        try:
            while not ready():
                if process.poll() is not None or time.monotonic() > until:
                    end_process(process)
                    return False
                time.sleep(POLL_S)
        except BaseException:
            end_process(process)
            raise
        return True

    def is_running(self) -> bool:
        """Return whether the lock is held: by the process, wherever it runs."""
        try:
            with self._lock.open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        except OSError as error:
            with explained_state(self.folder):
                raise error from None
        return False

    def where(self) -> Where:
        """Return where the process runs. Only if it is "here" may it be stopped."""
        identity = read_record(ProcessIdentity, self.read())
        if self.is_running():
            return "here" if identity and identity.is_alive_here() else "elsewhere"
        # A lock of this machine is reliable, also through its restart; another's may not be seen.
        if identity is None or identity.boot == boot_id() or identity.host == socket.gethostname():
            return "ended"
        return "elsewhere"

    def check_here(self, what: str) -> None:
        """Raise ClusterError, which names the host, if it runs where it cannot be reached.

        what: the process, in words.
        """
        if self.where() == "elsewhere":
            raise ClusterError(self._elsewhere_text(what))

    def read(self) -> dict[str, Any] | None:
        """Return the record; None if there is none."""
        try:
            record = json_value(self._record.read_text())
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def write(self, record: Mapping[str, Any]) -> None:
        """Replace the record, atomically. It must contain an identity. Raises ClusterError."""
        part = self._record.with_suffix(".part")
        with explained_state(self.folder):
            part.write_text(json.dumps(record, indent=2) + "\n")
            os.replace(part, self._record)

    def stop(self) -> bool:
        """Stop the process and all of its session, if it runs here; return whether it did."""
        identity = read_record(ProcessIdentity, self.read())
        if identity is None or self.where() != "here":
            return False
        identity.send(signal.SIGTERM)
        self._wait_for_end(within_s=STOP_S)
        _end_group(identity)
        self._wait_for_end(within_s=KILL_S)
        self._record.unlink(missing_ok=True)
        return True

    def last_line(self) -> str:
        """Return the last line of the log; nothing if there is none."""
        lines = self.log_text().splitlines()
        return next(filter(None, map(str.strip, reversed(lines))), "").removeprefix("overtile: ")

    def log_text(self) -> str:
        """Return the log; nothing if there is none."""
        try:
            return self.log.read_text(errors="replace")
        except OSError:
            return ""

    def _acquire(self, lock: IO[str]) -> None:
        for _ in range(LOCK_TRIES):  # another command that only asks holds it for a moment
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(POLL_S)
        raise ClusterError(self._elsewhere_text(f"the {self.name}"))

    def _elsewhere_text(self, what: str) -> str:
        values = self.read()
        record = read_record(ProcessIdentity, values)
        if values is None:
            return (
                f"{what} is being started by another command, or its record {self._record} is "
                f"lost: wait, or end the process that has {self._lock} open"
            )
        if record is None:
            return (
                f"{what} was started by another version of overtile, as process "
                f"{values.get('pid')} (record {self._record}): stop it with that version, where it "
                "was started"
            )
        runs = f"{what} runs on {record.host} since {values.get('since', 'an unknown time')}"
        if record.user != os.getuid():
            return f"{runs}, for {user_name(record.user)}: it can be stopped by that user only"
        if record.host == socket.gethostname():
            return (
                f"{runs}, where its process {record.pid} is not visible from here: run this "
                "command where it was started (another container, or a machine of the same name)"
            )
        if record.boot == boot_id():
            return (
                f"{runs}: run this command there; if this machine was called {record.host}, end "
                f"process {record.pid}"
            )
        return (
            f"{runs}: run this command there; if {record.host} no longer exists, delete "
            f"{self._record}"
        )

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


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End a process that was just started, and its session."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(KILL_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end_group(leader: ProcessIdentity) -> None:
    """Kill what is left of a session.

    Its number is not used again while a process of it exists; a new process of that number means
    that none does.
    """
    found = identify(leader.pid)
    if found is None or found.key == leader.key:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader.pid, signal.SIGKILL)


def now_text() -> str:
    """Return the current time, for a record or a log."""
    return datetime.now(UTC).isoformat(timespec="seconds")
