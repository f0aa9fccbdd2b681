"""``overtile preflight``: what must hold before a run starts, and whether it does."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import PlanError
from pipeline.base.text import counted

from ..text.terminal import say
from . import segment as cli_segment

if TYPE_CHECKING:
    from deploy.preflight.findings import Finding
    from pipeline.segmentation.prepare import Prepared


class _Optional:
    """A parser to which arguments are added as ones that may be left out."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser
        self.add_argument_group = parser.add_argument_group

    def add_argument(self, name: str, **options: Any) -> None:
        if name.startswith("-"):
            options.pop("required", None)
        else:
            options["nargs"] = "?"
        self._parser.add_argument(name, **options)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile preflight``: those of segment, and none is needed."""
    parser.epilog = (
        "Without INPUT, OUTPUT and --weights it looks at the cluster alone. A cluster that does "
        "not run is started for it, jobs are submitted, and all is ended again. Exit codes: 0 a "
        "run may start, 2 it may not."
    )
    cli_segment.add_arguments(_Optional(parser))  # type: ignore[arg-type]  # what it needs of one
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(options: argparse.Namespace) -> None:
    """Print what was found. Raises ClusterError where a run could not start."""
    from deploy import open_cluster
    from deploy.preflight.findings import refuse_errors

    from ..preflight.checks import preflight

    spec = cli_segment.cluster_spec(options)
    prepared = _prepared(options)
    with open_cluster(spec, tell=say) as client:
        findings = preflight(client, prepared, weights=options.weights)
        workers = len(client.nthreads())
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        print("\n".join(f"{found.level:<8}{found.check:<10}{found.text}" for found in findings))
        say(summary(findings, workers=workers))
    refuse_errors(findings)


def summary(findings: tuple[Finding, ...], *, workers: int) -> str:
    """Return what it comes to, in one line."""
    levels = [finding.level for finding in findings]
    errors, warnings = levels.count("error"), levels.count("warning")
    told = f"{counted(workers, 'worker')}: {counted(errors, 'error')}, "
    told += counted(warnings, "warning")
    return f"{told}; a run may {'not ' if errors else ''}start"


def _prepared(options: argparse.Namespace) -> Prepared | None:
    """Return the run that is meant; None where none is. Raises kinds of OvertileError."""
    given = [options.input, options.output, options.weights]
    if not any(given):
        return None
    if not all(given):
        raise PlanError(
            "preflight looks at a run where INPUT, OUTPUT and --weights are given, at the cluster "
            "alone where none is: give all three, or none"
        )
    from pipeline.segmentation.prepare import prepare

    parameters = cli_segment.segment_options(options)
    request = parameters.request(input=options.input, output=options.output)
    return prepare(request, parameters.predictor(options.weights))
