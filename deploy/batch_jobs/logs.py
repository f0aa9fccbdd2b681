"""Where batch jobs write their logs, and what the log of a failed job ends with."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.base.errors import ClusterError

from ..clusters.profiles import state_directory
from ..clusters.spec import JobSpec

LOG_END_BYTES = 16_384


def log_folder(job: JobSpec) -> Path:
    """Return the folder of the jobs' logs."""
    given = job.log_directory
    return Path(given).expanduser().absolute() if given else state_directory() / "jobs"


def make_log_folder(folder: Path) -> Path:
    """Create the folder of the jobs' logs, and return it. Raises ClusterError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClusterError(f"cannot create log_directory {folder}: {error.strerror}") from error
    return folder


def last_error(logs: Path, job_id: str) -> str:
    """Return the last error or line in the log of a failed job, and the log's path."""
    number = re.compile(rf"(?<!\d){re.escape(job_id.split('.')[0])}(?!\d)")
    files = logs.iterdir() if logs.is_dir() else ()
    found = [path for path in files if number.search(path.name) and path.is_file()]
    if not found:
        return f"no log in {logs}"
    newest = max(found, key=lambda path: path.stat().st_mtime)
    with newest.open("rb") as file:
        file.seek(max(0, newest.stat().st_size - LOG_END_BYTES))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    exits = [line.removeprefix("SystemExit: ") for line in lines if line.startswith("SystemExit: ")]
    last = [*filter(None, lines)][-1:]
    return f"{(exits or last or ['empty log'])[-1][:300]} ({newest})"
