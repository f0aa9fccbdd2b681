"""Writes one file so that it is there whole or not at all, at a local path or a remote URI."""

from __future__ import annotations

import glob
import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final
from uuid import uuid4

from ..base.errors import OutputError
from ..base.location import NAME_BYTES, Location
from ..base.store_errors import explained
from ..base.stores import file_system

_ADDED_BYTES: Final = 42
"""How much longer the name of a temporary file is."""
PART_BYTES: Final = 64 * 2**20
"""Of an upload in parts. S3 allows 10,000 of them, so files have up to 640 GB."""


class AtomicFile:
    """A file that appears at its location by :meth:`commit`, replacing one that is there.

    Used as a context, it is discarded on leaving without a commit. A local file is written under a
    temporary name in the same folder and renamed; a remote one is an upload that is completed. The
    file system ``memory://`` cannot delay its files: they appear as they are written.
    Raises OutputError with the location in all of its methods.
    """

    def __init__(self, location: Location) -> None:
        self._location = location
        self._is_open = True
        self._aside: Path | None = None
        self._file: Any
        with explained(OutputError, location):
            if location.is_local:
                self._aside, self._file = _open_local(location.path)
            else:
                self._file = _open_remote(location)

    def write(self, content: bytes | memoryview) -> None:
        """Append bytes."""
        with explained(OutputError, self._location):
            self._file.write(content)

    def commit(self) -> None:
        """Close the file and put it in its place."""
        with explained(OutputError, self._location):
            self._file.close()
            if self._aside is not None:
                os.replace(self._aside, self._location.path)
            else:
                self._file.commit()
        self._is_open = False

    def discard(self) -> None:
        """Forget what was written; a file that was there before stays."""
        if not self._is_open:
            return
        self._is_open = False
        with explained(OutputError, self._location):
            if self._aside is not None:
                self._file.close()
                self._aside.unlink(missing_ok=True)
            else:
                self._file.discard()

    def __enter__(self) -> AtomicFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.discard()


def _open_local(path: Path) -> tuple[Path, IO[bytes]]:
    """Open a temporary file beside ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = partial_path(path)
    return aside, aside.open("xb")


def partial_path(path: Path) -> Path:
    """Return a new name for a file while it is written; delete what killed processes have left."""
    name = _short(path.name)
    for left in path.parent.glob(f".{glob.escape(name)}.*.partial"):
        left.unlink(missing_ok=True)
    return path.with_name(f".{name}.{uuid4().hex}.partial")


def _short(name: str) -> str:
    """Return what stands for a name in that of its temporary file: a digest if it is long."""
    if len(os.fsencode(name)) <= NAME_BYTES - _ADDED_BYTES:
        return name
    return hashlib.sha256(os.fsencode(name)).hexdigest()


def _open_remote(location: Location) -> Any:
    """Open an upload that becomes visible by its ``commit``."""
    system, path = file_system(location)
    return system.open(path, "wb", block_size=PART_BYTES, autocommit=False)
