"""Processes that ``overtile prefect up`` keeps in the background: a server and a worker.

~/.local/state/overtile/prefect/
    server.json worker.json    who runs, since when
    server.lock worker.lock    held by the process itself, as long as it runs
    server.log worker.log
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

from deploy.clusters.profiles import state_directory

Part: TypeAlias = Literal["server", "worker"]

STOP_S, KILL_S = 20.0, 10.0
LOOK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A process that was started, as it was written down."""

    part: Part
    pid: int
    since: str
    url: str
    """Of the server's API."""
    folder: str
    """In which it was started: relative paths of flow runs begin there."""


def directory() -> Path:
    """Return the folder of records and logs."""
    return state_directory() / "prefect"


def log_of(part: Part) -> Path:
    """Return where a process writes what it says."""
    return directory() / f"{part}.log"


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let nobody else start or end these processes while inside."""
    directory().mkdir(parents=True, exist_ok=True)
    with (directory() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def prefect_command(arguments: Sequence[str]) -> list[str]:
    """Return the command that is ``prefect ARGUMENTS`` of this Python."""
    return [sys.executable, "-P", "-m", "prefect", *arguments]


def start_kept(
    part: Part, arguments: Sequence[str], *, url: str, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start ``prefect ARGUMENTS`` in a session of its own, and write it down."""
    folder = str(Path.cwd())
    with _lock_file(part).open("w") as lock, log_of(part).open("wb") as log:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # goes on in the process that inherits it
        process = subprocess.Popen(  # noqa: S603  Prefect's own command
            prefect_command(arguments), env=environment, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True, pass_fds=[lock.fileno()],
        )  # fmt: skip
    since = datetime.now(UTC).isoformat(timespec="seconds")
    kept = Kept(part=part, pid=process.pid, since=since, url=url, folder=folder)
    _record(part).write_text(json.dumps(asdict(kept), indent=2) + "\n")
    return process


def find_kept(part: Part) -> Kept | None:
    """Return the process that runs; None where none does."""
    if not _is_locked(part):
        return None
    try:
        return Kept(**json.loads(_record(part).read_text()))
    except (OSError, ValueError):
        return None


def stop_kept(part: Part) -> bool:
    """End a process with all that it started; return whether it still ran."""
    kept = find_kept(part)
    if kept is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(kept.pid, signal.SIGTERM)
    _wait_for_end(part, within_s=STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(kept.pid, signal.SIGKILL)  # whoever of its session is left
    _wait_for_end(part, within_s=KILL_S)
    _record(part).unlink(missing_ok=True)
    return True


def last_words(part: Part) -> str:
    """Return the last line of a log; nothing where there is none."""
    try:
        lines = log_of(part).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next(filter(None, map(str.strip, reversed(lines))), "")


def _wait_for_end(part: Part, *, within_s: float) -> None:
    until = time.monotonic() + within_s
    while _is_locked(part) and time.monotonic() < until:
        time.sleep(LOOK_S)


def _is_locked(part: Part) -> bool:
    try:
        with _lock_file(part).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _record(part: Part) -> Path:
    return directory() / f"{part}.json"


def _lock_file(part: Part) -> Path:
    return directory() / f"{part}.lock"
