"""The batch system's own commands: submit, cancel, and, of Slurm, the queue."""

from __future__ import annotations

import getpass
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.errors import ClusterError

from .render_workers import job_class

CALL_S = 60.0
LOG_END_BYTES = 16_384


class BatchSystem:
    """One kind of batch system, through the commands that dask-jobqueue knows."""

    def __init__(self, kind: str) -> None:
        job = job_class(kind)
        self.kind = kind
        self.cancel_command = shlex.split(job.cancel_command)
        self._submit_command = shlex.split(job.submit_command)
        self._job_id = re.compile(job.job_id_regexp)

    def submit(self, script: str) -> str:
        """Submit a script and return the job's id. Raises ClusterError in one line."""
        said = self._call(self._submit_command, text=script)
        match = self._job_id.search(said)
        if match is None:
            raise ClusterError(f"{self._submit_command[0]} told no job id, but {said.strip()!r}")
        return match["job_id"]

    def cancel(self, job_ids: Sequence[str]) -> None:
        """Cancel jobs; those that have ended already are no error."""
        try:
            self._call([*self.cancel_command, *job_ids])
        except ClusterError:  # the guard cancels what is left in the end
            return

    def queued(self) -> dict[str, str] | None:
        """Return state and reason of the user's jobs, by id; None where nobody can say."""
        if self.kind != "slurm":
            return None
        try:
            said = self._call(["squeue", "-h", "-u", getpass.getuser(), "-o", "%i|%T|%r"])
        except ClusterError:
            return None
        rows = (line.split("|", 2) for line in said.splitlines() if line.count("|") >= 2)
        return {job_id: f"{state} ({reason})" for job_id, state, reason in rows}

    def _call(self, command: Sequence[str], *, text: str = "") -> str:
        """Run a command and return what it said. In a session of its own: Ctrl-C is not for it."""
        try:
            done = subprocess.run(  # noqa: S603  the batch system's own command
                command, input=text, capture_output=True, text=True, timeout=CALL_S,
                start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise ClusterError(
                f"{command[0]} is not here: run this where jobs are submitted, on a login node"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"{command[0]} did not answer within {CALL_S:.0f} s") from error
        if done.returncode:
            prefix = re.compile(rf"^{re.escape(command[0])}: (error: |fatal: )?")
            said = [prefix.sub("", line.strip()) for line in done.stderr.splitlines()]
            why = "; ".join(filter(None, said)) or f"it left with {done.returncode}, silently"
            raise ClusterError(f"{command[0]} refused: {why[:500]}")
        return done.stdout


def end_of_log(logs: Path, job_id: str) -> str:
    """Return what a job that failed said last, and where, as a part of a sentence."""
    number = job_id.split(".")[0]
    found = sorted(logs.glob(f"*{number}*")) if logs.is_dir() else []
    if not found:
        return f"it wrote no log in {logs}"
    with found[-1].open("rb") as file:
        file.seek(max(0, found[-1].stat().st_size - LOG_END_BYTES))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    ours = [line.removeprefix("SystemExit: ") for line in lines if line.startswith("SystemExit: ")]
    last = [*filter(None, lines)][-1:]
    return f"{(ours or last or ['it said nothing'])[-1][:300]} ({found[-1]})"
