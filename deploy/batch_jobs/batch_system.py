"""A batch system's own commands: submit, cancel and, for Slurm, list the queue."""

from __future__ import annotations

import getpass
import re
import subprocess
from collections.abc import Sequence

from pipeline.base.errors import ClusterError

COMMANDS = {
    "slurm": ("sbatch", "scancel"),
    "lsf": ("bsub", "bkill"),
    "pbs": ("qsub", "qdel"),
    "sge": ("qsub", "qdel"),
}
"""What submits a script from standard input, and what cancels jobs by id."""
_JOB_ID = re.compile(r"\d+")  # the first number in the reply of each submit command
CALL_S = 60.0


class BatchSystem:
    """One kind of batch system, through its own commands."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._submit_command, self.cancel_command = COMMANDS[kind]

    def submit(self, script: str) -> str:
        """Submit a script and return the job's id. Raises ClusterError in one line."""
        reply = self._call([self._submit_command], text=script)
        match = _JOB_ID.search(reply)
        if match is None:
            raise ClusterError(
                f"{self._submit_command} returned no job id (reply: {reply.strip()!r})"
            )
        return match[0]

    def cancel(self, job_ids: Sequence[str]) -> None:
        """Cancel jobs; jobs that have already ended are ignored."""
        try:
            self._call([self.cancel_command, *job_ids])
        except ClusterError:  # the watchdog cancels the jobs that are left at the end
            return

    def queued(self) -> dict[str, str] | None:
        """Return state and reason of the user's jobs, by id; None except for Slurm."""
        if self.kind != "slurm":
            return None
        try:
            reply = self._call(["squeue", "-h", "-u", getpass.getuser(), "-o", "%i|%T|%r"])
        except ClusterError:
            return None
        rows = (line.split("|", 2) for line in reply.splitlines() if line.count("|") >= 2)
        return {job_id: f"{state} ({reason})" for job_id, state, reason in rows}

    def _call(self, command: Sequence[str], *, text: str = "") -> str:
        """Run a command in its own session, so that Ctrl-C does not reach it; return its output."""
        try:
            done = subprocess.run(  # noqa: S603  the batch system's own command
                command, input=text, capture_output=True, text=True, timeout=CALL_S,
                start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise ClusterError(
                f"{command[0]} not found: run this on a login node, where jobs are submitted"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"{command[0]} did not answer within {CALL_S:.0f} s") from error
        if done.returncode:
            prefix = re.compile(rf"^{re.escape(command[0])}: (error: |fatal: )?")
            lines = [prefix.sub("", line.strip()) for line in done.stderr.splitlines()]
            why = "; ".join(filter(None, lines)) or f"exit code {done.returncode}, no message"
            raise ClusterError(f"{command[0]} failed: {why[:500]}")
        return done.stdout
