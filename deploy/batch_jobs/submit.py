"""Submits the scripts of a run to Slurm."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .batch_system import BatchSystem
from .logs import make_log_folder
from .render_segment import Submission, render_finish, render_segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The ids of the jobs of a run."""

    job_id: str
    """Of the run, or of the job array of its shares."""
    finish_id: str | None = None
    """Of the job that finishes the output when all shares are done."""


def submit(submission: Submission) -> Submitted:
    """Submit a run. Raises ClusterError in one line; then no job is left."""
    batch = BatchSystem("slurm")
    make_log_folder(Path(submission.folder))
    job_id = batch.submit(render_segment(submission))
    if submission.shares is None:
        return Submitted(job_id=job_id)
    try:
        finish_id = batch.submit(render_finish(submission, after=job_id))
    except BaseException:
        batch.cancel([job_id])
        raise
    return Submitted(job_id=job_id, finish_id=finish_id)
