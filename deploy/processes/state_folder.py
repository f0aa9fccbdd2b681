"""The folder of state between runs: checked before a process is started that needs it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from pipeline.base.errors import ClusterError
from pipeline.base.store_errors import is_full

from .listeners import user_name

PROBE_BYTES = 65_536
"""What must fit: a record, a secret, the first lines of a log."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def make_state_folder(folder: Path) -> Path:
    """Create a folder for state, and check that files can be written to it; return it.

    Raises ClusterError if it cannot be created, is full, read-only, or another user's.
    """
    with explained_state(folder):
        _check_home(folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (owner := folder.stat().st_uid) != os.getuid():
            raise ClusterError(
                f"cannot keep state in {folder}: it belongs to {user_name(owner)}; run this as "
                "that user, or set XDG_STATE_HOME to your own folder"
            )
        with TemporaryFile(dir=folder) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())  # a quota is often noticed only now
    return folder


def _check_home(folder: Path) -> None:
    """Refuse to create a home that does not exist: root could, and it would be lost or wrong."""
    home = os.environ.get("HOME", "")
    if home and folder.is_relative_to(home) and not Path(home).is_dir():
        raise ClusterError(
            f"cannot keep state in {folder}: the home folder {home} does not exist; set HOME, or "
            "XDG_STATE_HOME to a folder that you can write to"
        )


@contextmanager
def explained_state(folder: Path) -> Iterator[None]:
    """Turn errors of the system into a ClusterError that names the folder and the remedy."""
    try:
        yield
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ClusterError(f"cannot keep state in {folder} ({why}): {_remedy(error)}") from error


def _remedy(error: OSError) -> str:
    if is_full(error):
        return "free some space there, or set XDG_STATE_HOME to a folder on another disk"
    if error.errno in _NO_LOCKS:
        return "its file system has no locks; set XDG_STATE_HOME to a folder on a local disk"
    return "set XDG_STATE_HOME to a folder that you can write to"
