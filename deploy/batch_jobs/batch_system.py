"""A batch system's own commands: submit, cancel and, for Slurm, list the queue."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from uuid import uuid4

from pipeline.base.errors import ClusterError

from .environment import states, submitting_environment

COMMANDS = {
    "slurm": ("sbatch", "scancel"),
    "lsf": ("bsub", "bkill"),
    "pbs": ("qsub", "qdel"),
    "sge": ("qsub", "qdel"),
}
"""What submits a script from standard input, and what cancels jobs by id."""
_JOB_ID = re.compile(r"\d+")  # the first number in the reply of each submit command
_ELSEWHERE = re.compile(r"on cluster (\S+)")
_BUSY = re.compile(
    r"timed out|unable to contact slurm controller|temporarily|connection refused|"
    r"zero bytes were transmitted|communication (connection )?failure",
    re.IGNORECASE,
)
"""Messages of sbatch that leave open whether the job was submitted, or that pass."""
CALL_S = 60.0
ATTEMPTS = 3
"""To submit a job while the batch system does not answer."""
LOOK_AFTER_S = (1.0, 4.0, 15.0)
"""Pauses before each look for a job whose submission was not answered: it may arrive late."""
CANCEL_AFTER_S = (0.0, 1.0, 4.0, 15.0)
"""Pauses before each attempt to cancel jobs that nothing else would cancel."""


class NoAnswerError(ClusterError):
    """A batch system that is busy: it may or may not have done what it was asked."""


class LostSubmissionError(ClusterError):
    """A submission that was not answered, by a batch system whose queue is not known either.

    mark: the comment of the job, if it has arrived.
    """

    def __init__(self, message: str, mark: str) -> None:
        super().__init__(message)
        self.mark = mark


class BatchSystem:
    """One kind of batch system, through its own commands."""

    def __init__(self, kind: str, *, marks: bool = True, follows: bool = False) -> None:
        """marks: whether Slurm's jobs get a comment, by which a lost submission is found again.

        follows: whether jobs are looked up and cancelled later, which needs those of one cluster.
        """
        self.kind, self._follows = kind, follows and kind == "slurm"
        self._marks = marks and kind == "slurm"
        self._submit_command, self.cancel_command = COMMANDS[kind]

    def submit(self, script: str) -> str:
        """Submit a script and return the job's id. Raises ClusterError in one line.

        If Slurm does not answer, the queue shows whether the job has arrived; if it has not, it is
        submitted again. Raises LostSubmissionError where the queue is not known.
        """
        if not self._marks or states(script, "comment"):
            return self._submitted([self._submit_command], script)
        mark = f"overtile-{uuid4().hex[:12]}"
        command = [self._submit_command, f"--comment={mark}"]
        for attempt in range(ATTEMPTS):
            try:
                job_id = self._submitted(command, script)
            except NoAnswerError as error:
                if arrived := self._look_for(mark, error):
                    return arrived[0]
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                if attempt:
                    self._cancel_others(mark, job_id)
                return job_id
        raise AssertionError("unreachable")

    def _submitted(self, command: Sequence[str], script: str) -> str:
        reply = self._call(command, text=script)
        match = _JOB_ID.search(reply)
        if match is None:
            raise ClusterError(
                f"{self._submit_command} returned no job id (reply: {reply.strip()!r})"
            )
        if self._follows and (elsewhere := _ELSEWHERE.search(reply)):
            with suppress(ClusterError):
                self._call([self.cancel_command, f"--clusters={elsewhere[1]}", match[0]])
            raise ClusterError(
                f"jobs go to the Slurm cluster {elsewhere[1]}, and only those of this machine's "
                "cluster can be followed: unset SBATCH_CLUSTERS, and state no --clusters"
            )
        return match[0]

    def _look_for(self, mark: str, error: NoAnswerError) -> list[str]:
        """Return the ids of jobs with this mark. Raises ClusterError if the queue stays unknown."""
        jobs = None
        for pause_s in LOOK_AFTER_S:
            time.sleep(pause_s)
            jobs = self.marked(mark)
            if jobs:
                return jobs
        if jobs is None:
            raise LostSubmissionError(
                f"{error}, and neither does squeue: look for a job with the comment {mark} before "
                "you submit again",
                mark,
            ) from error
        return []

    def _cancel_others(self, mark: str, job_id: str) -> None:
        """Cancel what an earlier attempt has submitted late."""
        if others := [one for one in self.marked(mark) or [] if one != job_id]:
            self.cancel(others)

    def marked(self, mark: str) -> list[str] | None:
        """Return the ids of the jobs with this comment; None if the queue is not known."""
        rows = self._squeue("%F|%k", "-t", "all")
        if rows is None:
            return None
        found = (row.partition("|") for row in rows)
        return sorted({job_id for job_id, _, comment in found if comment.strip() == mark})

    def cancel(self, job_ids: Sequence[str], *, after_s: Sequence[float] = (0.0,)) -> bool:
        """Cancel jobs; jobs that have already ended are ignored. Return False without an answer.

        after_s: a pause before each attempt.
        """
        for pause_s in after_s:
            time.sleep(pause_s)
            try:
                self._call([self.cancel_command, *job_ids])
            except NoAnswerError:
                continue
            except ClusterError:  # such as for jobs that have ended
                return True
            return True
        return False

    def queued(self) -> dict[str, str] | None:
        """Return state and reason of the user's jobs, by id; None except for Slurm."""
        if self.kind != "slurm" or (lines := self._squeue("%i|%T|%r")) is None:
            return None
        rows = (line.split("|", 2) for line in lines if line.count("|") >= 2)
        return {job_id: f"{state} ({reason})" for job_id, state, reason in rows}

    def environment(self, script: str = "") -> dict[str, str]:
        """Return the environment of this batch system's commands. script: to submit, if any."""
        return submitting_environment(self.kind, os.environ, script=script)

    def _squeue(self, form: str, *more: str) -> list[str] | None:
        """Return squeue's lines about the user's jobs; None if it does not answer."""
        try:
            reply = self._call(["squeue", "-h", "-u", getpass.getuser(), *more, "-o", form])
        except ClusterError:
            return None
        return reply.splitlines()

    def _call(self, command: Sequence[str], *, text: str = "") -> str:
        """Run a command in its own session, so that Ctrl-C does not reach it; return its output."""
        try:
            done = subprocess.run(  # noqa: S603  the batch system's own command
                command, input=text, capture_output=True, text=True, timeout=CALL_S,
                errors="surrogateescape", start_new_session=True, env=self.environment(text),
            )  # fmt: skip
        except FileNotFoundError as error:
            raise ClusterError(
                f"{command[0]} not found: run this on a login node, where jobs are submitted"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise NoAnswerError(f"{command[0]} did not answer within {CALL_S:.0f} s") from error
        if done.returncode:
            prefix = re.compile(rf"^{re.escape(command[0])}: (error: |fatal: )?")
            lines = [prefix.sub("", line.strip()) for line in done.stderr.splitlines()]
            why = "; ".join(filter(None, lines)) or f"exit code {done.returncode}, no message"
            kind = NoAnswerError if _BUSY.search(why) else ClusterError
            raise kind(f"{command[0]} failed: {why[:500]}")
        return done.stdout
