"""Prefect's own commands: run with this user's server, and why one failed."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from deploy.processes.limits import explained_limits, limit_text
from deploy.processes.state_folder import explained_state
from pipeline.base.errors import ClusterError

from .background import directory, prefect_command

KNOWN_REASONS = {
    r"Can't locate revision identified by": "its database {database} was written by a newer "
    "version of Prefect than {version}: install that version, or set PREFECT_HOME to another "
    "folder",
    r"can't start new thread|Resource temporarily unavailable": "{limit}",
    r"database or disk is full|No space left on device": "the disk of {database} is full: free "
    "some space, or set PREFECT_HOME to a folder on another disk",
    r"unable to open database file|attempt to write a readonly database": "{database} cannot be "
    "written: set PREFECT_HOME to a folder that you can write to",
}
"""What a log of Prefect contains, and what it means."""


class Commands:
    """Runs plain Prefect commands, and prints them."""

    def __init__(
        self, *, url: str, environment: Mapping[str, str], say: Callable[[str], None]
    ) -> None:
        self.url, self.say = url, say
        self.environment = {**environment, "PWD": str(Path.cwd())}

    def __call__(self, *arguments: str) -> None:
        """Run ``prefect ARGUMENTS``. Raises ClusterError with the reason if it fails."""
        self.show(*arguments)
        with explained_limits(f"run {command_text(*arguments)}"):
            done = subprocess.run(  # noqa: S603  Prefect's own command
                prefect_command(arguments), env=self.environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            )  # fmt: skip
        if done.returncode:
            log = directory() / "up.log"
            with explained_state(directory()):
                log.write_text(done.stdout)
            raise ClusterError(
                f"{command_text(*arguments)} failed: {reason(done.stdout)}; log {log}"
            )

    def show(self, *arguments: str) -> None:
        """Print ``prefect ARGUMENTS``."""
        self.say(f"  $ {command_text(*arguments)}")


def command_text(*arguments: str) -> str:
    """Return a Prefect command as typed in a shell."""
    return shlex.join(["prefect", *arguments])


def reason(output: str) -> str:
    """Return the line of a command's output that states why it failed.

    >>> reason("Traceback …\\n  File …\\nhttpx.ReadTimeout: too slow\\nAn exception occurred.")
    'httpx.ReadTimeout: too slow'
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    raised = [
        line for line in lines if re.match(r"[\w.]*(Error|Exception|Timeout|NotFound)\b", line)
    ]
    return next(reversed(raised or lines), "no output")


def why_not_started(log: str, *, database: str, version: str) -> str:
    """Return why a server or worker did not start, by its log. version: of Prefect here.

    >>> why_not_started("…CommandError: Can't locate revision identified by '1'\\nServer stopped!",
    ...                 database="prefect.db", version="3.8.8")  # doctest: +ELLIPSIS
    'its database prefect.db was written by a newer version of Prefect than 3.8.8: install that ...'
    """
    for pattern, meaning in KNOWN_REASONS.items():
        if re.search(pattern, log):
            return meaning.format(database=database, version=version, limit=limit_text())
    return reason(log) if log.strip() else "empty log"
