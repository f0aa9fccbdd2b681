"""Clusters that outlive a run: started in the background, found by name, stopped by name.

~/.local/state/overtile/clusters/NAME/
    cluster.json, cluster.lock, cluster.log    see deploy/processes/background.py
    scheduler.json                             the scheduler's file
"""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.base.errors import ClusterError
from pipeline.base.loopback import is_loopback

from ..processes.background import Background
from ..processes.identity import ProcessIdentity, read_record
from .profiles import is_name, state_directory

START_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedCluster(ProcessIdentity):
    """A cluster that was started: its record."""

    name: str
    kind: str
    since: str
    address: str
    dashboard: str
    first_worker_s: float
    """How long a run may wait for its first worker."""
    job_ids: tuple[str, ...] = ()
    """Of its current batch jobs."""
    tls: str | None = None
    """Where its certificate files are, as in a specification; None if it is not encrypted."""


def directory_of(name: str) -> Path:
    """Return the folder of a cluster. Raises ClusterError if the name is not valid."""
    if not is_name(name) or name == "local":
        raise ClusterError(
            f"cluster name {name!r}: use letters, digits, dots and dashes; local is reserved"
        )
    return state_directory() / "clusters" / name


def process_of(name: str) -> Background:
    """Return the background process of a cluster."""
    return Background(folder=directory_of(name), name="cluster")


def scheduler_file_of(name: str) -> Path:
    """Return the path of a cluster's scheduler file."""
    return directory_of(name) / "scheduler.json"


def find_started(name: str) -> StartedCluster | None:
    """Return the record of a cluster; None if none of this name was started.

    Raises ClusterError if another version of overtile wrote the record.
    """
    if not is_name(name) or name == "local":
        return None
    values = process_of(name).read()
    if values is None:
        return None
    started = read_record(StartedCluster, {**values, "job_ids": tuple(values.get("job_ids") or ())})
    if started is None:
        raise ClusterError(
            f"cluster {name} was started by another version of overtile: stop it with that "
            f"version, then delete {directory_of(name)}"
        )
    return started


def started_names() -> list[str]:
    """Return the names of all clusters that were started."""
    return sorted(file.parent.name for file in state_directory().glob("clusters/*/cluster.json"))


def tls_of_address(address: str) -> str | None:
    """Return where the certificate files of a started cluster are; None if none has the address.

    Records of other versions of overtile are left out.
    """
    for name in started_names():
        with suppress(ClusterError):
            started = find_started(name)
            if started is not None and started.address == address:
                return started.tls
    return None


def write_started(started: StartedCluster) -> None:
    """Write the record of a cluster, atomically. Raises ClusterError."""
    process_of(started.name).write(asdict(started))


def start_cluster(name: str, *, cluster: str | None = None) -> StartedCluster:
    """Start a cluster in the background and return it once its scheduler answers.

    cluster: as :func:`deploy.parse_cluster` takes it; by default the profile, or the kind, of this
    name. Raises ClusterError.
    """
    directory, process = directory_of(name), process_of(name)
    if (before := find_started(name)) and process.where() != "ended":
        raise ClusterError(
            f"cluster {name} is already running, on {before.host} since {before.since}: stop it "
            f"first, on {before.host}"
        )
    module = "deploy.named_clusters.service"
    child = process.start([sys.executable, "-P", "-m", module, name, cluster or name])
    if not process.wait_until(lambda: find_started(name), child, within_s=START_S):
        why = process.last_line() or f"no scheduler within {START_S:.0f} s"
        shutil.rmtree(directory, ignore_errors=True)
        raise ClusterError(f"cluster {name} did not start: {why}")
    started = find_started(name)
    assert started is not None
    return started


def stop_cluster(name: str) -> bool:
    """Stop a cluster; return whether it was still running. Raises ClusterError."""
    require_started(name)
    process = process_of(name)
    process.check_here(f"cluster {name}")
    was_running = process.stop()
    shutil.rmtree(directory_of(name), ignore_errors=True)
    return was_running


def require_started(name: str) -> StartedCluster:
    """Return the record of a cluster. Raises ClusterError if none of this name was started."""
    started = find_started(name)
    if started is None:
        names = ", ".join(started_names()) or "none"
        raise ClusterError(f"no cluster {name} was started; started clusters: {names}")
    return started


def has_ended(started: StartedCluster) -> str | None:
    """Return, of a cluster that has ended unexpectedly, what happened; None if it may still run.

    Raises ClusterError if it runs on another machine, where only that machine can reach it.
    """
    process = process_of(started.name)
    where = process.where()
    if where == "elsewhere" and is_loopback(urlsplit(started.address).hostname):
        process.check_here(f"cluster {started.name}")
    if where != "ended":
        return None
    return f"cluster {started.name} has ended unexpectedly ({process.last_line() or 'empty log'})"
