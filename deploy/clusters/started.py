"""Clusters that outlive a run: started in the background, found by name, stopped by name.

~/.local/state/overtile/clusters/NAME/
    cluster.json      who runs it, and what it submitted
    scheduler.json    the scheduler's file
    lock              held as long as it runs
    log
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.base.errors import ClusterError

from .profiles import is_name, state_directory

START_S = 60.0
STOP_S, KILL_S = 30.0, 10.0
LOOK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A cluster that was started, as it wrote itself down."""

    name: str
    kind: str
    host: str
    pid: int
    since: str
    address: str
    dashboard: str
    first_worker_s: float
    """How long a run may wait for its first worker."""
    job_ids: tuple[str, ...] = ()
    """Of the jobs that it keeps now."""

    @property
    def is_here(self) -> bool:
        """Return whether it was started on this machine."""
        return self.host == socket.gethostname()


def directory_of(name: str) -> Path:
    """Return the folder of a cluster of this name. Raises ClusterError for no name."""
    if not is_name(name) or name == "local":
        raise ClusterError(
            f"{name!r} cannot name a cluster: take letters, digits, dots, dashes; local is taken"
        )
    return state_directory() / "clusters" / name


def scheduler_file_of(name: str) -> Path:
    """Return where the scheduler of a cluster of this name writes its address."""
    return directory_of(name) / "scheduler.json"


def find_started(name: str) -> Started | None:
    """Return what is written of a cluster; None where none of this name was started."""
    if not is_name(name) or name == "local":
        return None
    try:
        written = json.loads((directory_of(name) / "cluster.json").read_text())
    except (OSError, ValueError):
        return None
    return Started(**{**written, "job_ids": tuple(written["job_ids"])})


def started_names() -> list[str]:
    """Return the names of all clusters that were started."""
    return sorted(file.parent.name for file in state_directory().glob("clusters/*/cluster.json"))


def write_started(started: Started) -> None:
    """Write a cluster down, all or nothing."""
    file = directory_of(started.name) / "cluster.json"
    aside = file.with_suffix(".part")
    aside.write_text(json.dumps(asdict(started), indent=2) + "\n")
    os.replace(aside, file)


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a cluster's lock while inside, as long as its process runs: waits for it."""
    with (directory_of(name) / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_running(name: str) -> bool:
    """Return whether a cluster that was started on this machine still runs."""
    try:
        with (directory_of(name) / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def start_cluster(name: str, *, cluster: str | None = None) -> Started:
    """Start a cluster in the background and return it once its scheduler answers.

    cluster: what it is, as :func:`deploy.parse_cluster` takes it; by default the profile, or the
    kind, of this name. Raises ClusterError.
    """
    directory = directory_of(name)
    if (before := find_started(name)) and (not before.is_here or is_running(name)):
        raise ClusterError(
            f"cluster {name} runs already, on {before.host} since {before.since}: stop it first"
        )
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    log = directory / "log"
    command = [sys.executable, "-P", "-m", "deploy.named_clusters.service", name, cluster or name]
    with log.open("wb") as said:
        process = subprocess.Popen(  # noqa: S603  our own module
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
    until = time.monotonic() + START_S
    while (started := find_started(name)) is None:
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            process.wait()
            why = last_words(name) or f"no scheduler within {START_S:.0f} s"
            shutil.rmtree(directory, ignore_errors=True)
            raise ClusterError(f"cluster {name} did not start: {why}")
        time.sleep(LOOK_S)
    return started


def last_words(name: str) -> str:
    """Return the last line of a cluster's log; nothing where there is none."""
    try:
        lines = (directory_of(name) / "log").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next(filter(None, reversed(lines)), "").removeprefix("overtile: ")


def stop_cluster(name: str) -> bool:
    """End what was started under a name; return whether it still ran. Raises ClusterError."""
    started = find_started(name)
    if started is None:
        raise ClusterError(f"no cluster {name} was started; there is {names_text()}")
    if not started.is_here:
        raise ClusterError(f"cluster {name} was started on {started.host}: stop it there")
    ran = is_running(name)
    for number, within_s in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, KILL_S)):
        if not is_running(name):
            break
        with suppress(ProcessLookupError):
            os.kill(started.pid, number)
        until = time.monotonic() + within_s
        while is_running(name) and time.monotonic() < until:
            time.sleep(LOOK_S)
    shutil.rmtree(directory_of(name), ignore_errors=True)
    return ran


def names_text() -> str:
    """Return the names of all clusters that were started, for a person."""
    return ", ".join(started_names()) or "none"
