"""Small file systems in memory, which fill up, run out of inodes or become read-only."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUSY_S = 20.0


def may_mount() -> bool:
    """Return whether this process may mount file systems."""
    done = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True, check=False,
    ) if os.geteuid() == 0 else None  # fmt: skip
    return done is not None and done.returncode == 0


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount a file system with these options (``size=1m``, ``nr_inodes=90``) on a folder."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def remount(folder: Path, options: str) -> None:
    """Change the options; a file that is open for writing delays ``ro``."""
    until = time.monotonic() + BUSY_S
    while True:
        done = subprocess.run(
            ["mount", "-o", f"remount,{options}", folder], capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode == 0:
            return
        assert time.monotonic() < until, done.stderr
