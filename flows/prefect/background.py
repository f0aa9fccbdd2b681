"""The server and the worker that ``overtile prefect up`` starts in the background.

~/.local/state/overtile/prefect/
    server.json, server.lock, server.log    see deploy/processes/background.py
    worker.json, worker.lock, worker.log
    access.json                             address and password, see access.py
    lock                                    held by ``up`` and ``down``

There is one server and one worker per home, also where several machines share it: Prefect's SQLite
database, which is in the home too, must not be opened by two servers.
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

from deploy.clusters.profiles import state_directory
from deploy.processes.background import Background, end_process, now_text
from deploy.processes.identity import ProcessIdentity, identify, read_record
from deploy.processes.state_folder import explained_state, make_state_folder

Part: TypeAlias = Literal["server", "worker"]
PARTS: tuple[Part, ...] = ("server", "worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefectProcess(ProcessIdentity):
    """A process that was started: its record."""

    part: Part
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
    """Block other commands that start or stop these processes. Raises ClusterError."""
    folder = make_state_folder(directory())
    with explained_state(folder):
        lock = (folder / "lock").open("w")
    with lock:
        with explained_state(folder):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def prefect_command(arguments: Sequence[str]) -> list[str]:
    """Return the command that is ``prefect ARGUMENTS`` of this Python."""
    return [sys.executable, "-P", "-m", "prefect", *arguments]


def start_part(
    part: Part, arguments: Sequence[str], *, url: str, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start ``prefect ARGUMENTS`` and write its record. Raises ClusterError.

    No process is left that no record knows.
    """
    process = process_of(part).start(prefect_command(arguments), environment=environment)
    try:
        if identity := identify(process.pid):  # None: it has ended already
            record = PrefectProcess(
                **asdict(identity), part=part, since=now_text(), url=url, folder=str(Path.cwd())
            )
            process_of(part).write(asdict(record))
    except BaseException:
        end_process(process)
        raise
    return process


def find_part(part: Part) -> PrefectProcess | None:
    """Return the record of a process that runs here; None if it does not run.

    Raises ClusterError, which names the host, if it runs where it cannot be reached.
    """
    process = process_of(part)
    process.check_here(f"the {part} of overtile prefect up")
    if process.where() == "ended":
        return None
    return read_record(PrefectProcess, process.read())


def check_here() -> None:
    """Raise ClusterError, which names the host, if server or worker run on another one."""
    for part in PARTS:
        find_part(part)
