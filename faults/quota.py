"""A small file system whose quota is used up at a chosen moment: the system answers EDQUOT."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .tmpfs import may_mount

SIZE: Final = 256 * 2**20
"""Of the image, which is sparse; btrfs needs half of it."""
_FIRST: Final = "0/256"
"""The quota group of the first subvolume."""


def may_limit() -> bool:
    """Return whether this process may mount btrfs, which needs no tool or kernel for quotas."""
    tools = shutil.which("mkfs.btrfs"), shutil.which("btrfs")
    return all(tools) and may_mount() and "\tbtrfs\n" in Path("/proc/filesystems").read_text()


@dataclass(frozen=True, slots=True)
class Quota:
    """The quota of a folder on a file system of its own."""

    top: Path

    @property
    def folder(self) -> Path:
        """The folder that has the quota."""
        return self.top / "disk"

    def exhaust(self) -> None:
        """Allow less than is used: nothing can be written from now on."""
        self._limit("16K")

    def raise_limit(self) -> None:
        """Allow everything."""
        self._limit("none")

    def _limit(self, size: str) -> None:
        _run("btrfs", "qgroup", "limit", size, _FIRST, self.top)


@contextmanager
def with_quota(folder: Path) -> Iterator[Quota]:
    """Mount a file system, and yield the quota of a folder on it."""
    image = folder.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(SIZE)
    folder.mkdir()
    _run("mkfs.btrfs", "-q", image)
    _run("mount", "-o", "loop", image, folder)
    try:
        _run("btrfs", "quota", "enable", folder)
        _run("btrfs", "subvolume", "create", folder / "disk")
        yield Quota(folder)
    finally:
        _run("umount", "--lazy", folder)
        image.unlink()


def _run(*words: str | Path) -> None:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
