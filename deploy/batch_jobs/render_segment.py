"""The scripts of a command as one Slurm job, or as an array of shares. Nothing is submitted here.

A script consists of a head (directives and settings), rendered here, and of the part of
``slurm/segment.sbatch`` below its mark, which is the same in every job.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from pipeline.base.errors import ClusterError

from ..clusters.spec import ClusterSpec, JobSpec
from ..tls.files import AUTO
from .directives import directives
from .quoting import word_with_variables
from .render_workers import module_load, python_command

MARK = "# ---- do not edit below this line ----\n"
_COMMA = re.compile(r"[\w.:=/-]*,[\w.:=,/-]*")
"""Words that need no quotes in a shell, but about which shellcheck warns."""
FIRST_WORKER_S = 600.0
"""In a running allocation, workers only have to start, if from a slow file system."""
MOST_SHARES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One run of ``overtile segment``, ``objects`` or ``train`` to submit."""

    cluster: ClusterSpec
    """Of kind slurm. Its job states the resources of a node; its number of jobs is ignored."""
    arguments: tuple[str, ...]
    """Of the command: of segment and objects INPUT, OUTPUT, then options."""
    directory: str
    """The job's working directory."""
    folder: str
    """For the jobs' logs and temporary folders; visible from all nodes."""
    nodes: int = 1
    shares: int | None = None
    """Size of the job array, each task on ``nodes`` nodes; a last job finishes the output."""
    command: Literal["segment", "objects", "train"] = "segment"
    training: str | None = None
    """Folder of the training, for command ``train``, which then has no shares."""

    def __post_init__(self) -> None:
        if self.cluster.kind != "slurm":
            raise ClusterError(
                f"cluster {self.cluster.where or self.cluster.kind}: expected a profile with "
                'kind = "slurm"; with other batch systems, run the command with --cluster on a '
                "login node"
            )
        if self.nodes < 1:
            raise ClusterError(f"--nodes {self.nodes}: expected at least 1")
        if self.shares is not None and not 2 <= self.shares <= MOST_SHARES:
            raise ClusterError(
                f"--shard {self.shares}: expected a number of shares, 2 to {MOST_SHARES}"
            )
        if self.shares and "--overwrite" in self.arguments:
            raise ClusterError(
                "--overwrite with --shard: each share would delete the others' work; delete the "
                "output first, or choose another output"
            )
        for text in (*self.arguments, self.directory, self.folder, self.output):
            if not text.isprintable():
                raise ClusterError(
                    f"{text!r}: a script cannot contain control characters; rename it"
                )

    @property
    def output(self) -> str:
        """What ``overtile status`` shows the progress of."""
        return self.arguments[1] if self.training is None else self.training

    @property
    def job(self) -> JobSpec:
        """The resources of a node."""
        assert self.cluster.job is not None
        return self.cluster.job


def render_segment(submission: Submission, *, after: str | None = None) -> str:
    """Return the script of the run; with shares, of the job array whose tasks do one share each.

    after: the id of a job that must have succeeded.
    """
    run = _array((submission.command, *submission.arguments))
    if submission.shares is not None:
        run += f' --shard "$SLURM_ARRAY_TASK_ID/{submission.shares}"'
    more = () if after is None else _after(after)
    return _script(submission, run, nodes=submission.nodes, tasks=submission.shares, more=more)


def render_merge(submission: Submission, *, after: str) -> str:
    """Return the script of the job that merges objects once all shares are labelled."""
    run = _array((submission.command, *submission.arguments, "--merge-only"))
    return _script(submission, run, nodes=submission.nodes, more=_after(after))


def _after(job_id: str) -> tuple[str, ...]:
    """Return the directives of a job that begins if another one has succeeded."""
    return (f"--dependency=afterok:{shlex.quote(job_id)}", "--kill-on-invalid-dep=yes")


def render_finish(submission: Submission, *, after: str) -> str:
    """Return the script of the last job, which checks that all shares are done, and finishes.

    after: the id of the array. If a share fails, Slurm cancels this job before it starts.
    """
    command = "finish" if submission.command == "segment" else submission.command
    run = _array((command, *submission.arguments))
    return _script(submission, run, more=_after(after))


def _script(
    submission: Submission,
    run: str,
    *,
    nodes: int = 1,
    tasks: int | None = None,
    more: Sequence[str] = (),
) -> str:
    job = submission.job
    of_run = (
        f"--chdir={shlex.quote(submission.directory)}",
        "--open-mode=append",
        "--requeue",
        f"--signal=B:USR1@{round(job.margin_s)}",
        *more,
    )
    return "\n".join(
        [
            "#!/usr/bin/env bash",
            *directives(
                job, kind="slurm", logs=submission.folder, nodes=nodes, tasks=tasks, more=of_run
            ),
            "",
            *_settings(submission, run),
            "",
            MARK + _body(),
        ]
    )


def _settings(submission: Submission, run: str) -> list[str]:
    """Return the settings that the common part of the script reads."""
    cluster, job = submission.cluster, submission.job
    first_worker_s = cluster.first_worker_s or FIRST_WORKER_S
    return [
        f"run=({run})",
        f"output={shlex.quote(submission.output)}",
        f"python=({_array(python_command(job))})",
        f"folder={shlex.quote(submission.folder)}",
        f"interface={shlex.quote(job.interface or '')}",
        f"gpus={job.gpus_per_job}",
        f"workers={job.workers}",
        f"threads={cluster.threads_per_worker}",
        f"port={cluster.scheduler_port}",
        f"dashboard={shlex.quote(cluster.dashboard)}",
        f"tls={shlex.quote(cluster.tls or AUTO)}",
        f"spill={word_with_variables(job.local_directory or '')}",
        f"death_s={round(job.death_s)}",
        f"first_worker_s={first_worker_s:g}",
        *(module_load(module) for module in job.modules),
        *job.prologue,
    ]


def _array(texts: Sequence[str]) -> str:
    """Return texts as the elements of a shell's array, quoted if necessary.

    >>> print(_array(("segment", "my in.zarr", "--block", "16,32,32")))
    segment 'my in.zarr' --block '16,32,32'
    """
    return " ".join(f"'{text}'" if _COMMA.fullmatch(text) else shlex.quote(text) for text in texts)


@cache
def _body() -> str:
    text = files("deploy").joinpath("slurm", "segment.sbatch").read_text(encoding="utf-8")
    _, mark, body = text.partition(MARK)
    assert mark, "slurm/segment.sbatch has lost its mark"
    return body
