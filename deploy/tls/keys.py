"""Keys made for one cluster, in private files that are gone when it ends.

    PARENT/tls-3f0c…/           0700
        ca.pem, cert.pem        the certificate, which is its own CA
        key.pem                 its key; all files 0600
        .overtile-keys          locked as long as the process runs that made them

The files of a process that was killed are removed by its watchdog, if it has one, and by the next
process that makes keys beside them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from pipeline.base.errors import ClusterError

from .certificate import VALID, make_key_pair
from .files import NAMES

MARK: Final = ".overtile-keys"
"""A file beside keys that overtile made; given certificates have none."""
_PREFIX: Final = "tls-"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@contextmanager
def new_keys(parent: Path) -> Iterator[Path]:
    """Yield a new folder with the keys of one cluster; it is removed on exit.

    parent: created if necessary. Keys of processes that were killed are removed from it. Raises
    ClusterError if nothing can be written there.
    """
    remove_left_keys(parent)
    folder = parent / f"{_PREFIX}{uuid4().hex[:12]}"
    try:
        make_keys(folder)
        with _marked(folder):
            yield folder
    finally:
        remove_keys(folder)


def make_keys(folder: Path) -> None:
    """Write new keys into a folder that must not exist yet. Raises ClusterError."""
    pair = make_key_pair()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
        for name, text in zip(NAMES, (pair.certificate, pair.certificate, pair.key), strict=True):
            _write_private(folder / name, text)
    except OSError as error:
        raise ClusterError(
            f"cannot write the keys of this cluster to {folder} ({error.strerror}): free space "
            "there, or set log_directory to a folder that you can write to"
        ) from error


def made_keys(tls: str | None) -> Path | None:
    """Return the folder of a setting ``tls`` if overtile made the keys in it."""
    folder = Path(tls or "")
    return folder if tls and (folder / MARK).is_file() else None


def remove_keys(folder: Path) -> None:
    """Remove a folder of keys, if it exists."""
    shutil.rmtree(folder, ignore_errors=True)


def remove_left_keys(parent: Path) -> None:
    """Remove the keys of this user's processes that were killed since this machine started.

    Whether a process of another machine still runs is not known: its keys are removed once their
    certificate has expired.
    """
    with suppress(OSError):
        for folder in parent.glob(f"{_PREFIX}*"):
            with suppress(OSError):  # such as BlockingIOError: they are in use
                if folder.stat().st_uid == os.getuid() and _is_left(folder):
                    remove_keys(folder)


def _is_left(folder: Path) -> bool:
    """Return whether keys are not in use. Raises OSError if they are, or if overtile made none."""
    with (folder / MARK).open() as mark:
        if time.time() - os.fstat(mark.fileno()).st_mtime > VALID.total_seconds():
            return True
        if not (boot := _boot_id()) or mark.read() != boot:
            return False
        fcntl.flock(mark, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True


@contextmanager
def _marked(folder: Path) -> Iterator[None]:
    """Hold the lock of keys that this process has made."""
    _write_private(folder / MARK, "")
    with (folder / MARK).open("w") as mark:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mark.write(_boot_id())  # once it is locked: others read it first
        mark.flush()
        yield


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _boot_id() -> str:
    """Return the id of this machine's present run; empty where the system has none."""
    with suppress(OSError):
        return _BOOT_ID.read_text().strip()
    return ""
