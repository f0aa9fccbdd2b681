"""``overtile submit segment``: runs segment as a separate Slurm job, or as an array of shares."""

from __future__ import annotations

import argparse
import os
import shlex
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline.base.errors import ClusterError, OvertileError

from ..options.cluster import ClusterOptions
from ..options.declared import valued, words_of
from ..options.objects import ObjectDefinition, WithObjects
from ..options.segment import SegmentFiles, SegmentOptions
from ..text.terminal import say
from .arguments import add_options
from .object_arguments import read_definition, read_segment_options
from .parser import Parser

if TYPE_CHECKING:
    from deploy.batch_jobs.render_segment import Submission
    from pipeline.base.location import Location

EXAMPLE = "overtile submit segment in.zarr out.zarr --weights w.safetensors --cluster hpc"
RECENT_S = 120.0
"""A run is assumed to be writing an output that changed within this time."""
_ABOUT = (
    "Segment a volume in a separate Slurm job: scheduler, workers and run in one allocation. "
    "Before its walltime the job drains, requeues itself and resumes."
)


def add_arguments(parser: Parser) -> None:
    """Add the arguments of ``overtile submit``: those of segment, and those of the submission."""
    commands = parser.add_subparsers(required=True, metavar="segment")
    segment = commands.add_parser("segment", help="segment a volume", description=_ABOUT)
    add_options(
        segment, SegmentFiles, SegmentOptions, WithObjects, ObjectDefinition, ClusterOptions,
        without=("shard", "cluster"),
    )  # fmt: skip
    job = segment.add_argument_group("submission")
    job.add_argument(
        "--cluster", default="slurm", metavar="PROFILE|FILE.toml",
        help="settings of the jobs, of kind slurm (default: slurm)",
    )  # fmt: skip
    job.add_argument(
        "--nodes", type=int, default=1, metavar="N", help="nodes of the allocation (default: 1)"
    )
    job.add_argument(
        "--shard", type=int, metavar="N", dest="shares",
        help="number of shares of the volume: a job array, each with its own nodes and scheduler, "
        "and a last job that builds the pyramid (default: one job without shares)",
    )  # fmt: skip
    job.add_argument("--dry-run", action="store_true", help="print the scripts, submit nothing")
    segment.example = EXAMPLE


def run(options: argparse.Namespace) -> None:
    """Check the run as segment would, then submit it or print its script."""
    from deploy.batch_jobs.render_segment import render_finish, render_segment
    from deploy.batch_jobs.submit import submit

    parameters = read_segment_options(options)
    submission = _submission(options, parameters)
    output = _checked_output(options, parameters)
    if options.dry_run:
        print(render_segment(submission), end="")
        if submission.shares:
            print(render_finish(submission, after="ID-OF-THE-ARRAY"), end="")
            say("two scripts: the array of shares, and the job that completes the output")
        return
    warn_of_other_run(output)
    submitted = submit(submission)
    print(submitted.job_id)
    if submitted.finish_id:
        print(submitted.finish_id)
        say(f"{submission.shares} shares in job array {submitted.job_id}")
        say(f"then job {submitted.finish_id} builds the pyramid")
    else:
        say(f"job {submitted.job_id}")
    say(f"logs: {submission.folder}")
    quoted = shlex.quote(str(output))
    say(f"progress, once the job has started: overtile status {quoted}")


def _checked_output(options: argparse.Namespace, parameters: SegmentOptions) -> Location:
    """Return the output, or raise the kind of OvertileError that segment would."""
    from pipeline.segmentation.prepare import prepare

    share = f"1/{options.shares}" if options.shares else None  # what one share accepts, all accept
    one = parameters.model_copy(update={"shard": share})
    request = one.request(input=options.input, output=options.output)
    prepare(request, one.predictor(options.weights))
    return request.output


def warn_of_other_run(output: Location) -> None:
    """Warn if another run seems to be writing the output, which the job would take over."""
    from pipeline.ledger.status import read_status

    with suppress(OvertileError):
        status = read_status(output)
        if status.pyramid or status.written is None:
            return
        ago = (datetime.now(UTC) - status.written).total_seconds()
        if ago < RECENT_S:
            say(
                f"warning: {output} was written {ago:.0f} s ago; if another run is writing it, "
                "this job takes the output over and that run ends"
            )


def _submission(options: argparse.Namespace, parameters: SegmentOptions) -> Submission:
    """Return the jobs to submit. Raises ClusterError."""
    from deploy.batch_jobs.logs import log_folder
    from deploy.batch_jobs.render_segment import Submission
    from deploy.cluster import described_cluster

    if options.workers is not None:
        raise ClusterError(
            "--workers applies to --cluster local only: set workers_per_job in the profile instead"
        )
    spec = described_cluster(options.cluster)
    return Submission(
        cluster=spec,
        arguments=segment_words(options, parameters),
        directory=os.getcwd(),
        folder=str(log_folder(spec.job)) if spec.job else "",
        nodes=options.nodes,
        shares=options.shares,
    )


def segment_words(options: argparse.Namespace, parameters: SegmentOptions) -> tuple[str, ...]:
    """Return the arguments of ``overtile segment``: INPUT, OUTPUT and all that is not a default."""
    files = [options.input, options.output, *valued("--weights", options.weights)]
    definition = read_definition(options)
    objects = [] if definition is None else ["--objects", *words_of(definition)]
    return (*files, *words_of(parameters), *objects)
