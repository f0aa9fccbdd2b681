"""``overtile cluster start|status|stop``: a cluster that outlives a run."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from pipeline.base.shell_words import shell_word
from pipeline.base.text import counted

from ..text.terminal import say, show
from .parser import Parser

if TYPE_CHECKING:
    from deploy.named_clusters.status import ClusterStatus

_ABOUT = (
    "Start scheduler and workers in the background. Runs use them by the cluster's name: overtile "
    "segment … --cluster NAME. Several runs can share a cluster."
)


def add_arguments(parser: Parser) -> None:
    """Add the arguments of ``overtile cluster``."""
    commands = parser.add_subparsers(required=True, metavar="start|status|stop", dest="action")
    start = commands.add_parser(
        "start", help="start scheduler and workers in the background", description=_ABOUT
    )
    start.add_argument("name", metavar="NAME", help="name of the cluster, for runs")
    start.add_argument(
        "--cluster", metavar="PROFILE|FILE.toml|KIND",
        help="kind of cluster: a profile, a TOML file, or local, cuda, slurm, lsf, pbs, sge "
        "(default: the profile or kind with its name)",
    )  # fmt: skip
    status = commands.add_parser(
        "status",
        help="show workers and their tasks",
        description="Show the batch jobs, the workers and the tasks of started clusters.",
    )
    status.add_argument(
        "name", metavar="NAME", nargs="?", help="one cluster (default: all started clusters)"
    )
    status.add_argument("--json", action="store_true", help="print the status as JSON")
    stop = commands.add_parser(
        "stop",
        help="stop what start started, and nothing else",
        description="Stop the scheduler, the workers and the batch jobs of a started cluster. "
        "Runs that use it fail, and can be resumed.",
    )
    stop.add_argument("name", metavar="NAME", help="name of a started cluster")


def run(options: argparse.Namespace) -> None:
    """Start, inspect or stop a cluster."""
    {"start": _start, "status": _status, "stop": _stop}[options.action](options)


def _start(options: argparse.Namespace) -> None:
    from deploy.clusters.started import start_cluster

    started = start_cluster(options.name, cluster=options.cluster)
    say(f"cluster {started.name}: {started.kind}, {started.address}")
    say(f"dashboard: {started.dashboard}")
    name = shell_word(started.name)
    stop = f"overtile cluster stop {shell_word(started.name)}"
    say(f"use it with --cluster {name}; stop it with {stop}")


def _status(options: argparse.Namespace) -> None:
    from deploy.clusters.started import started_names
    from deploy.named_clusters.status import cluster_status

    names = [options.name] if options.name else started_names()
    statuses = [cluster_status(name) for name in names]
    if options.json:
        print(json.dumps([asdict(status) for status in statuses], indent=2))
    else:
        show("\n".join(map(status_text, statuses)) or "no cluster was started")


def status_text(status: ClusterStatus) -> str:
    """Return a cluster's status as text."""
    started = status.started
    lines = [
        f"{started.name}: {started.kind} on {started.host}, {started.address}, "
        f"since {started.since}",
        f"  dashboard: {started.dashboard}",
        *(f"  job {job_id}: {state}" for job_id, state in status.jobs.items()),
    ]
    for worker in status.workers:
        tasks = ", ".join(f"{number} {kind}" for kind, number in sorted(worker.tasks.items()))
        lines.append(
            f"  worker {worker.name} on {worker.host}, {counted(worker.threads, 'thread')}, "
            f"{worker.status.replace('_', ' ')}: {tasks or 'idle'}"
        )
    return "\n".join(lines if status.workers else [*lines, "  no workers"])


def _stop(options: argparse.Namespace) -> None:
    from deploy.clusters.started import stop_cluster

    ran = stop_cluster(options.name)
    say(f"cluster {options.name}: {'stopped' if ran else 'had already ended; record deleted'}")
