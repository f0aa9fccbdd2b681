"""Submits the scripts of a run to Slurm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import ClusterError
from pipeline.base.text import counted

from .batch_system import CANCEL_AFTER_S, BatchSystem
from .logs import make_log_folder
from .render_segment import Submission, render_finish, render_merge, render_segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The ids of the jobs of a run."""

    job_id: str
    """Of the run, or of the job array of its shares."""
    later_ids: tuple[str, ...] = ()
    """Of the jobs that follow, each on the one before it; the last one finishes the output."""


def submit(submission: Submission) -> Submitted:
    """Submit a run. Raises ClusterError in one line; it names the jobs that are left, if any."""
    batch = BatchSystem("slurm", marks="--comment" not in submission.job.skip_directives)
    make_log_folder(Path(submission.folder))
    ids = [batch.submit(render_segment(submission))]
    try:
        for render in following(submission):
            ids.append(batch.submit(render(submission, after=ids[-1])))
    except BaseException as error:
        if not batch.cancel(ids, after_s=CANCEL_AFTER_S):
            words = f"{batch.cancel_command} {' '.join(ids)}"
            raise ClusterError(
                f"{error or 'stopped'}; {counted(len(ids), 'job')} submitted before could not be "
                f"cancelled: cancel them before you submit again, with {words}"
            ) from error
        raise
    return Submitted(job_id=ids[0], later_ids=tuple(ids[1:]))


def following(submission: Submission) -> tuple[Callable[..., str], ...]:
    """Return what renders the jobs after the first, in order. They take the id of the one before.

    Shares of objects label; when all have, one job merges, then shares write.
    """
    if submission.shares is None:
        return ()
    if submission.command == "segment":
        return (render_finish,)
    return (render_merge, render_segment, render_finish)
