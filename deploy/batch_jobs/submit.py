"""Hands the scripts of a run to Slurm: the only subprocesses are the batch system's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import ClusterError

from ..clusters.profiles import state_directory
from ..clusters.spec import JobSpec
from .batch_system import BatchSystem
from .render_segment import Submission, render_finish, render_segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The jobs of a run, as Slurm named them."""

    job_id: str
    """Of the run, or of the array of its shares."""
    finish_id: str | None = None
    """Of the job that finishes when all shares are done."""


def job_folder(job: JobSpec) -> Path:
    """Return the folder of the jobs' logs."""
    given = job.log_directory
    return Path(given).expanduser().absolute() if given else state_directory() / "jobs"


def submit(submission: Submission) -> Submitted:
    """Submit a run. Raises ClusterError in one line, and then leaves no job behind."""
    batch = BatchSystem("slurm")
    folder = Path(submission.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClusterError(f"log_directory {folder} cannot be made: {error.strerror}") from error
    job_id = batch.submit(render_segment(submission))
    if submission.shares is None:
        return Submitted(job_id=job_id)
    try:
        finish_id = batch.submit(render_finish(submission, after=job_id))
    except BaseException:
        batch.cancel([job_id])
        raise
    return Submitted(job_id=job_id, finish_id=finish_id)
