"""``overtile cluster start|status|stop``: a cluster that outlives a run."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from pipeline.base.text import counted

from ..text.terminal import say
from .parser import Parser

if TYPE_CHECKING:
    from deploy.named_clusters.status import ClusterLook

_ABOUT = "Runs find it by its name: overtile segment … --cluster NAME. Several may share it."

EXAMPLE = "overtile cluster start hpc"


def add_arguments(parser: Parser) -> None:
    """Add the arguments of ``overtile cluster``."""
    commands = parser.add_subparsers(required=True, metavar="start|status|stop", dest="action")
    start = commands.add_parser(
        "start", help="start scheduler and workers in the background", description=_ABOUT
    )
    start.example = EXAMPLE
    start.add_argument("name", metavar="NAME", help="name of the cluster, for runs")
    start.add_argument(
        "--cluster", metavar="PROFILE|FILE.toml|KIND",
        help="kind of cluster: a profile, a TOML file, or local, cuda, slurm, lsf, pbs, sge "
        "(default: the profile or kind with its name)",
    )  # fmt: skip
    status = commands.add_parser("status", help="show workers and their tasks")
    status.example = "overtile cluster status hpc"
    status.add_argument(
        "name", metavar="NAME", nargs="?", help="one cluster (default: all started clusters)"
    )
    status.add_argument("--json", action="store_true", help="print the status as JSON")
    stop = commands.add_parser("stop", help="stop what start started, and nothing else")
    stop.example = "overtile cluster stop hpc"
    stop.add_argument("name", metavar="NAME", help="name of a started cluster")


def run(options: argparse.Namespace) -> None:
    """Start, look at or stop a cluster."""
    {"start": _start, "status": _status, "stop": _stop}[options.action](options)


def _start(options: argparse.Namespace) -> None:
    from deploy.clusters.started import start_cluster

    started = start_cluster(options.name, cluster=options.cluster)
    say(f"cluster {started.name}: {started.kind}, {started.address}")
    say(f"dashboard: {started.dashboard}")
    say(f"use it with --cluster {started.name}, end it with overtile cluster stop {started.name}")


def _status(options: argparse.Namespace) -> None:
    from deploy.clusters.started import started_names
    from deploy.named_clusters.status import look_at_cluster

    names = [options.name] if options.name else started_names()
    looks = [look_at_cluster(name) for name in names]
    if options.json:
        print(json.dumps([asdict(look) for look in looks], indent=2))
    else:
        print("\n".join(map(look_text, looks)) or "no cluster was started")


def look_text(look: ClusterLook) -> str:
    """Return what a cluster does, for a person."""
    started = look.started
    lines = [
        f"{started.name}: {started.kind} on {started.host}, {started.address}, "
        f"since {started.since}",
        f"  dashboard: {started.dashboard}",
        *(f"  job {job_id}: {state}" for job_id, state in look.jobs.items()),
    ]
    for worker in look.workers:
        tasks = ", ".join(f"{number} {kind}" for kind, number in sorted(worker.tasks.items()))
        lines.append(
            f"  worker {worker.name} on {worker.host}, {counted(worker.threads, 'thread')}, "
            f"{worker.status.replace('_', ' ')}: {tasks or 'idle'}"
        )
    return "\n".join(lines if look.workers else [*lines, "  no workers"])


def _stop(options: argparse.Namespace) -> None:
    from deploy.clusters.started import stop_cluster

    ran = stop_cluster(options.name)
    say(f"cluster {options.name} " + ("is stopped" if ran else "had ended by itself: forgotten"))
