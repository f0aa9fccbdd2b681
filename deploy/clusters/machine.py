"""The cores and the memory of this machine that this process may use; imports nothing slow."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

CONTROL_GROUP = Path("/sys/fs/cgroup")
LIMITS = ("memory.max", "memory.high", "memory/memory.limit_in_bytes")
"""Files that hold a limit, of version 2 and version 1; without a limit they hold a word."""


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Return the memory that this process may use, as Dask finds it for its workers."""
    return min(int(psutil.virtual_memory().total), *_limits())


def free_memory_bytes() -> int:
    """Return the memory of this machine that no process uses, within this process's limits."""
    return min(int(psutil.virtual_memory().available), memory_bytes())


def _limits() -> Iterator[int]:
    yield from (limit for limit in (resource.getrlimit(resource.RLIMIT_RSS)[1], 2**63) if limit > 0)
    for name in LIMITS:
        with suppress(OSError, ValueError):
            yield int((CONTROL_GROUP / name).read_text())
