"""The server and the worker that ``overtile prefect up`` starts in the background.

~/.local/state/overtile/prefect/
    server.json, server.lock, server.log    see deploy/clusters/background.py
    worker.json, worker.lock, worker.log
    lock                                    held by ``up`` and ``down``
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from deploy.clusters.background import Background, now_text
from deploy.clusters.profiles import state_directory

Part: TypeAlias = Literal["server", "worker"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefectProcess:
    """A process that was started: its record."""

    part: Part
    pid: int
    since: str
    url: str
    """Of the server's API."""
    folder: str
    """Its working directory: relative paths of flow runs start there."""


def directory() -> Path:
    """Return the folder of records and logs."""
    return state_directory() / "prefect"


def process_of(part: Part) -> Background:
    """Return a background process, running or not."""
    return Background(folder=directory(), name=part)


@contextmanager
def exclusive() -> Iterator[None]:
    """Block other commands that start or stop these processes."""
    directory().mkdir(parents=True, exist_ok=True)
    with (directory() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def prefect_command(arguments: Sequence[str]) -> list[str]:
    """Return the command that is ``prefect ARGUMENTS`` of this Python."""
    return [sys.executable, "-P", "-m", "prefect", *arguments]


def start_part(
    part: Part, arguments: Sequence[str], *, url: str, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start ``prefect ARGUMENTS`` and write its record."""
    process = process_of(part).start(prefect_command(arguments), environment=environment)
    record = PrefectProcess(
        part=part, pid=process.pid, since=now_text(), url=url, folder=str(Path.cwd())
    )
    process_of(part).write(asdict(record))
    return process


def find_part(part: Part) -> PrefectProcess | None:
    """Return the record of a process that runs; None if it does not run."""
    process = process_of(part)
    record = process.read() if process.is_running() else None
    return None if record is None else PrefectProcess(**record)
