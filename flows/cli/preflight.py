"""``overtile preflight``: checks whether a run could start."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from pipeline.base.errors import PlanError
from pipeline.base.text import counted

from ..options.cluster import ClusterOptions
from ..options.segment import SegmentFiles, SegmentOptions
from ..text.terminal import say, show
from .arguments import add_options, read_options

if TYPE_CHECKING:
    from deploy import Client
    from deploy.preflight.findings import Finding
    from pipeline.segmentation.prepare import Prepared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile preflight``: those of segment, all optional."""
    parser.epilog = (
        "Without INPUT, OUTPUT and --weights, only the cluster is checked. A cluster that is not "
        "running is started, with its batch jobs, and stopped again. Exit codes: 0 a run may "
        "start, 2 it may not."
    )
    add_options(parser, SegmentFiles, SegmentOptions, ClusterOptions, all_optional=True)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(options: argparse.Namespace) -> None:
    """Print the findings. Raises ClusterError if a run could not start."""
    from deploy import open_cluster
    from deploy.preflight.findings import refuse_errors

    from ..preflight.checks import preflight

    spec = read_options(ClusterOptions, options).spec()
    prepared = _prepared(options)
    with open_cluster(spec, notify=say) as client:
        if prepared is not None:
            prepared = fitted(prepared, client)
        findings = preflight(client, prepared, weights=options.weights)
        workers = len(client.nthreads())
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        show("\n".join(f"{found.level:<8}{found.check:<10}{found.text}" for found in findings))
        if prepared is not None:
            say_volume(prepared)
        say(summary(findings, workers=workers))
    refuse_errors(findings)


def say_volume(prepared: Prepared) -> None:
    """Print the voxel size, and whether the volume suits the weights."""
    from pipeline.volume.size_text import size_line

    say(size_line(prepared.source))
    for note in prepared.notes:
        say(f"note: {note}")


def fitted(prepared: Prepared, client: Client) -> Prepared:
    """Return the plan for what the workers can spare."""
    from pipeline.segmentation.room import fit_to_workers

    return fit_to_workers(prepared, client)


def summary(findings: tuple[Finding, ...], *, workers: int) -> str:
    """Return the number of errors and warnings, in one line."""
    levels = [finding.level for finding in findings]
    errors, warnings = levels.count("error"), levels.count("warning")
    counts = f"{counted(workers, 'worker')}: {counted(errors, 'error')}, "
    counts += counted(warnings, "warning")
    return f"{counts}; a run may {'not ' if errors else ''}start"


def _prepared(options: argparse.Namespace) -> Prepared | None:
    """Return the run to check; None where none is given. Raises kinds of OvertileError."""
    given = [options.input, options.output, options.weights]
    if not any(given):
        return None
    if not all(given):
        raise PlanError(
            "preflight checks a run if INPUT, OUTPUT and --weights are given, else the cluster "
            "alone: give all three, or none"
        )
    from pipeline.segmentation.prepare import prepare

    parameters = read_options(SegmentOptions, options)
    request = parameters.request(input=options.input, output=options.output)
    return prepare(request, parameters.predictor(options.weights))
