"""Cancels the jobs of a driver that has ended: a separate process, which outlives a SIGKILL.

The driver reports its jobs through a pipe, ``+ID`` when one is submitted and ``-ID`` when one has
ended. When the pipe closes, because the driver closed it or died, the watchdog removes the keys
that the driver made for their TLS, cancels the jobs that are left, and exits.

    driver   ---- +17 +18 -17 ---- x
    watchdog --------------------- scancel 18
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from ..tls.keys import remove_keys

PAUSES_S = (0, 1, 4, 15, 60, 180)
"""Before each attempt to cancel: a batch system may not answer for a while."""
CALL_S = 60.0
WAIT_S = 15.0
"""How long the driver waits for the watchdog at the end; the watchdog continues on its own."""


class Watchdog:
    """The driver's side. A context manager: on exit, all jobs that are left are cancelled."""

    def __init__(
        self,
        cancel: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        keys: Path | None = None,
    ) -> None:
        """Start the process.

        cancel: the command that cancels jobs, without their ids. environment: of that command.
        keys: a folder to remove.
        """
        self._cancel = list(cancel)
        self._jobs: set[str] = set()
        module = ["-P", "-m", "deploy.batch_jobs.watchdog"]
        command = [sys.executable, *module, str(keys or ""), *cancel]
        self._process = subprocess.Popen(  # noqa: S603  our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            text=True, start_new_session=True, env=environment,
        )  # fmt: skip

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            if self._process.wait(WAIT_S) and self._jobs:  # the watchdog was killed
                cancel_jobs(self._cancel, sorted(self._jobs), pauses_s=PAUSES_S[:3])

    def add(self, job_id: str) -> None:
        """Report a job that was submitted."""
        self._jobs.add(job_id)
        self._send(f"+{job_id}")

    def remove(self, job_id: str) -> None:
        """Report a job that has ended."""
        self._jobs.discard(job_id)
        self._send(f"-{job_id}")

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # the watchdog was killed
            print(line, file=self._process.stdin, flush=True)


def jobs_left(lines: Iterable[str]) -> list[str]:
    """Return the jobs that were reported and have not ended when the lines end.

    >>> jobs_left(["+17", "+18", "-17"])
    ['18']
    """
    jobs: dict[str, None] = {}
    for line in lines:
        sign, job_id = line[:1], line[1:].strip()
        if sign == "+":
            jobs[job_id] = None
        else:
            jobs.pop(job_id, None)
    return list(jobs)


def cancel_jobs(
    cancel: Sequence[str], job_ids: Sequence[str], *, pauses_s: Sequence[float] = PAUSES_S
) -> None:
    """Cancel jobs; retry for a few minutes if the batch system does not answer."""
    for pause_s in pauses_s:
        time.sleep(pause_s)
        try:
            done = subprocess.run(  # noqa: S603  the batch system's own command
                [*cancel, *job_ids], stdin=subprocess.DEVNULL, capture_output=True, timeout=CALL_S
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return


def main(arguments: Sequence[str]) -> None:
    """Read until the pipe closes, then remove the keys, if any, and cancel."""
    keys, *cancel = arguments
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    job_ids = jobs_left(sys.stdin)
    if keys:
        remove_keys(Path(keys))
    if job_ids:
        cancel_jobs(cancel, job_ids)


if __name__ == "__main__":
    main(sys.argv[1:])
