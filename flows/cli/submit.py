"""``overtile submit segment``: the run as a Slurm job of its own, or as an array of shares."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import ClusterError, OvertileError

from ..text.terminal import say
from . import segment as cli_segment

if TYPE_CHECKING:
    from deploy.batch_jobs.render_segment import Submission

AT_WORK_S = 120.0
"""An output that was written to since is taken for one that a run is at work on."""
_ABOUT = (
    "Segment a volume in a Slurm job of its own: scheduler, workers and run in one allocation. "
    "Before its walltime the job drains, requeues itself and goes on."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile submit``: those of segment, and how it is submitted."""
    commands = parser.add_subparsers(required=True, metavar="segment")
    segment = commands.add_parser(
        "segment", help="segment a volume", description=_ABOUT, conflict_handler="resolve"
    )
    cli_segment.add_arguments(segment)
    segment.set_defaults(cluster="slurm", default_of=segment.get_default)
    job = segment.add_argument_group("how it is submitted")
    job.add_argument(
        "--cluster", default="slurm", metavar="PROFILE",
        help="what a node brings: a profile or a FILE.toml of kind slurm (default: slurm)",
    )  # fmt: skip
    job.add_argument(
        "--nodes", type=int, default=1, metavar="N", help="nodes of the allocation (default: 1)"
    )
    job.add_argument(
        "--shard", type=int, metavar="N",
        help="N shares in a job array, each with nodes and a scheduler of its own, and a last job "
        "that builds the pyramid",
    )  # fmt: skip
    job.add_argument("--dry-run", action="store_true", help="print what would be submitted")


def run(options: argparse.Namespace) -> None:
    """Check what segment would refuse, then submit it, or print its script."""
    from deploy.batch_jobs.render_segment import render_finish, render_segment
    from deploy.batch_jobs.submit import submit
    from pipeline.segmentation.prepare import prepare

    submission = _submission(options)
    share = f"1/{options.shard}" if options.shard else None  # all are alike
    parameters = cli_segment.segment_options(options, shard=share)
    request = parameters.request(input=options.input, output=options.output)
    prepare(request, parameters.predictor(options.weights))
    if options.dry_run:
        print(render_segment(submission), end="")
        if submission.shares:
            print(render_finish(submission, after="ID-OF-THE-ARRAY"), end="")
            say("two scripts: an array of shares, and the job that finishes; submit each alone")
        return
    say_who_writes(options.output)
    submitted = submit(submission)
    print(submitted.job_id)
    if submitted.finish_id:
        print(submitted.finish_id)
        say(f"{submission.shares} shares in job array {submitted.job_id}")
        say(f"then job {submitted.finish_id} builds the pyramid")
    else:
        say(f"job {submitted.job_id}")
    say(f"logs: {submission.folder}")
    output = shlex.quote(_absolute(options.output))
    say(f"how far it is, once it has begun: overtile status {output}")


def say_who_writes(output: str) -> None:
    """Warn of a run that seems to be at work on an output: a job would take the output over."""
    from pipeline.base.errors import OutputError
    from pipeline.base.location import Location
    from pipeline.ledger.status import read_status

    with suppress(OvertileError):
        status = read_status(Location.parse(output, kind=OutputError))
        if status.pyramid or status.written is None:
            return
        ago = (datetime.now(UTC) - status.written).total_seconds()
        if ago < AT_WORK_S:
            say(
                f"warning: {output} was written to {ago:.0f} s ago: if a run is at work on it, "
                "this job takes the output over and that run ends"
            )


def _absolute(output: str) -> str:
    from pipeline.base.errors import OutputError
    from pipeline.base.location import Location

    return str(Location.parse(output, kind=OutputError))


def _submission(options: argparse.Namespace) -> Submission:
    """Return what would be submitted. Raises ClusterError."""
    from deploy.batch_jobs.render_segment import Submission
    from deploy.batch_jobs.submit import job_folder
    from deploy.cluster import described_cluster

    if options.workers is not None:
        raise ClusterError("--workers goes with --cluster local; a profile says workers_per_job")
    spec = described_cluster(options.cluster)
    return Submission(
        cluster=spec,
        arguments=segment_words(options, default_of=options.default_of),
        directory=os.getcwd(),
        folder=str(job_folder(spec.job)) if spec.job else "",
        nodes=options.nodes,
        shares=options.shard,
    )


def segment_words(
    options: argparse.Namespace, *, default_of: Callable[[str], Any]
) -> tuple[str, ...]:
    """Return the arguments of ``overtile segment`` that mean these options: INPUT, OUTPUT, options.

    default_of: gives an option's default, which need not be said.
    """
    from ..options.segment import SegmentOptions

    words = [options.input, options.output, *_with_value("--weights", options.weights)]
    for name in sorted(SegmentOptions.model_fields.keys() - {"shard"}):
        value = getattr(options, name)
        if value == default_of(name):
            continue
        option = "--" + _NAMES.get(name, name).replace("_", "-")
        words += [option] if value is True else _with_value(option, _text(value))
    return tuple(words)


_NAMES = {"tile_memory_gib": "tile_memory"}


def _with_value(option: str, text: str) -> list[str]:
    return [f"{option}={text}"] if text.startswith("-") else [option, text]


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
