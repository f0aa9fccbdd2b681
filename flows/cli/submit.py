"""``overtile submit``: runs segment, objects or train as a separate Slurm job, or as job arrays."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from pipeline.base.errors import ClusterError, OvertileError
from pipeline.base.shell_words import shell_word

from ..options.cluster import ClusterOptions
from ..options.credentials import refuse_credentials
from ..options.objects import ObjectDefinition, ObjectsFiles, ObjectsOptions, WithObjects
from ..options.segment import SegmentFiles, SegmentOptions
from ..text.terminal import say
from .arguments import add_options
from .parser import Parser
from .submit_checks import Checked, check
from .training_arguments import add_training

if TYPE_CHECKING:
    from deploy import ClusterSpec
    from deploy.batch_jobs.render_segment import Submission
    from deploy.batch_jobs.submit import Submitted
    from pipeline.base.location import Location

_JOB = (
    "in a separate Slurm job: scheduler, workers and run in one allocation. Before its walltime "
    "the job drains, requeues itself and resumes."
)
_SHARES = {
    "segment": "and a last job that builds the pyramid",
    "objects": "to label, a job that merges, an array to write, and a last job",
}


def add_arguments(parser: Parser) -> None:
    """Add the arguments of ``overtile submit``: those of the command, and of the submission."""
    commands = parser.add_subparsers(
        required=True, metavar="segment|objects|train", dest="submitted"
    )
    segment = commands.add_parser(
        "segment", help="segment a volume", description=f"Segment a volume {_JOB}"
    )
    add_options(
        segment, SegmentFiles, SegmentOptions, WithObjects, ObjectDefinition, ClusterOptions,
        without=("shard", "cluster"),
    )  # fmt: skip
    objects = commands.add_parser(
        "objects", help="find the objects in scores", description=f"Find objects {_JOB}"
    )
    add_options(
        objects, ObjectsFiles, ObjectsOptions, ClusterOptions,
        without=("shard", "merge_only", "cluster"),
    )  # fmt: skip
    train = commands.add_parser("train", help="train a U-Net", description=f"Train a U-Net {_JOB}")
    add_training(train, without=("cluster",))
    for name, command in (("segment", segment), ("objects", objects), ("train", train)):
        _add_submission(command, name)


def _add_submission(parser: Parser, command: str) -> None:
    job = parser.add_argument_group("submission")
    job.add_argument(
        "--cluster", default="slurm", metavar="PROFILE|FILE.toml",
        help="settings of the jobs, of kind slurm (default: slurm)",
    )  # fmt: skip
    job.add_argument(
        "--nodes", type=int, default=1, metavar="N", help="nodes of the allocation (default: 1)"
    )
    if command in _SHARES:
        job.add_argument(
            "--shard", type=int, metavar="N", dest="shares",
            help="number of shares of the volume: a job array, each with its own nodes and "
            f"scheduler, {_SHARES[command]} (default: one job without shares)",
        )  # fmt: skip
    job.add_argument("--dry-run", action="store_true", help="print the scripts, submit nothing")


def run(options: argparse.Namespace) -> None:
    """Check the run as its command would, then submit it or print its script."""
    from deploy.batch_jobs.submit import submit
    from pipeline.base.location import Location

    cluster = _cluster(options)
    checked = check(options, cluster)
    if checked is None:
        return
    refuse_credentials(checked.arguments, stored_by="the job's script")
    submission = _submission(options, checked, cluster)
    if options.dry_run:
        _print_scripts(submission)
        return
    if checked.training is None:
        warn_of_other_run(Location.parse(checked.place))
    submitted = submit(submission)
    print(submitted.job_id, *submitted.later_ids, sep="\n")
    for line in _submitted_lines(submission, submitted):
        say(line)
    say(f"logs: {submission.folder}")
    say(f"progress, once the job has started: overtile status {shell_word(checked.place)}")


def _print_scripts(submission: Submission) -> None:
    from deploy.batch_jobs.render_segment import render_segment
    from deploy.batch_jobs.submit import following

    print(render_segment(submission), end="")
    later = following(submission)
    for render in later:
        print(render(submission, after="ID-OF-THE-JOB-BEFORE"), end="")
    if later:
        say(f"{1 + len(later)} scripts: {_SCRIPTS[submission.command]}")


_SCRIPTS = {
    "segment": "the array of shares, and the job that completes the output",
    "objects": "the array that labels, the job that merges, the array that writes, the last job",
}


def _submitted_lines(submission: Submission, submitted: Submitted) -> Iterator[str]:
    if not submitted.later_ids:
        yield f"job {submitted.job_id}"
        return
    yield f"{submission.shares} shares in job array {submitted.job_id}"
    *between, last = submitted.later_ids
    if between:
        merging, writing = between
        yield f"then job {merging} merges, and job array {writing} writes the labels"
    yield f"then job {last} builds the pyramid"


def warn_of_other_run(output: Location) -> None:
    """Warn if another run seems to be writing the output, which the job would take over."""
    from pipeline.ledger.liveness import possible_run

    with suppress(OvertileError):
        if process := possible_run(output):
            say(
                f"warning: {process} may be writing {output}; if it still runs, this job takes the "
                "output over and that run ends"
            )


def _cluster(options: argparse.Namespace) -> ClusterSpec:
    """Return the cluster of the jobs. Raises ClusterError."""
    from deploy.cluster import described_cluster
    from deploy.clusters.profiles import with_settings

    if getattr(options, "workers", None) is not None:
        raise ClusterError(
            "--workers applies to --cluster local only: set workers_per_job in the profile instead"
        )
    spec = described_cluster(options.cluster)
    return spec if options.tls is None else with_settings(spec, {"tls": options.tls})


def _submission(options: argparse.Namespace, checked: Checked, cluster: ClusterSpec) -> Submission:
    """Return the jobs to submit. Raises ClusterError."""
    from deploy.batch_jobs.logs import log_folder
    from deploy.batch_jobs.render_segment import Submission

    return Submission(
        cluster=cluster,
        command=options.submitted,
        arguments=checked.arguments,
        directory=os.getcwd(),
        folder=str(log_folder(cluster.job)) if cluster.job else "",
        nodes=options.nodes,
        shares=getattr(options, "shares", None),
        training=checked.training,
    )
