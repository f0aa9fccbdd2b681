"""A memory limit that the kernel enforces: a process beyond it gets SIGKILL from it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
_LIMIT: Final = {1: "memory.limit_in_bytes", 2: "memory.max"}
_SWAP: Final = {1: ("memory.swappiness", "0"), 2: ("memory.swap.max", "0")}
_KILLS: Final = {1: "memory.oom_control", 2: "memory.events"}
END_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A control group below that of this process. version: of the kernel's interface, 1 or 2."""

    folder: Path
    version: int

    @property
    def members(self) -> Path:
        """The file to which a process writes its id to join."""
        return self.folder / "cgroup.procs"

    def limit(self, size: int) -> None:
        """Let the members have this many bytes, and no swap."""
        (self.folder / _LIMIT[self.version]).write_text(str(size))
        name, value = _SWAP[self.version]
        if (self.folder / name).exists():
            (self.folder / name).write_text(value)

    def kills(self) -> int:
        """Return how many members the kernel has killed."""
        lines = (self.folder / _KILLS[self.version]).read_text().splitlines()
        return int(dict(map(str.split, lines))["oom_kill"])


@contextmanager
def memory_group(size: int) -> Iterator[MemoryGroup]:
    """Yield a group with a limit. Raises OSError where this process may not create it."""
    parent, version = _own()
    folder = parent / f"faults-{os.getpid()}"
    folder.mkdir()
    try:
        group = MemoryGroup(folder, version)
        group.limit(size)
        yield group
    finally:
        _remove(folder)


def may_limit() -> bool:
    """Return whether this process may create a group with a limit."""
    try:
        with memory_group(2**30):
            return True
    except (OSError, LookupError):
        return False


def _own() -> tuple[Path, int]:
    """Return the folder of this process's group that limits memory, and its version."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, kinds, path = line.split(":", 2)
        if "memory" in kinds.split(","):
            return ROOT / "memory" / path.lstrip("/"), 1
    return ROOT / path.lstrip("/"), 2  # its line is the last one


def _remove(folder: Path) -> None:
    """Remove a group once its members have ended."""
    until = time.monotonic() + END_S
    while True:
        try:
            folder.rmdir()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return
