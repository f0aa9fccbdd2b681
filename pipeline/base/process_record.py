"""Which process this is, so that another one can ask later whether it still runs.

A number alone is not enough: another process may have it by now, on this or on another machine.
Nothing here depends on a clock that can be set: the start is counted from the boot of the machine.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """Return the record of this process, as JSON values."""
    return {**_machine(), "pid": os.getpid(), "started": _start_of(os.getpid())}


def is_running(record: Mapping[str, Any]) -> bool | None:
    """Return whether the process of a record runs, or sleeps; None: it is not of this machine."""
    machine = _machine()
    if not machine["boot"] or any(record.get(name) != machine[name] for name in machine):
        return None
    started = _start_of(record["pid"]) if isinstance(record.get("pid"), int) else None
    return started is not None and started == record.get("started")


def _machine() -> dict[str, str]:
    """Return what differs between machines, between boots of one, and between containers."""
    return {
        "host": socket.gethostname(),
        "boot": _text("/proc/sys/kernel/random/boot_id"),
        "processes": _link("/proc/self/ns/pid"),
    }


def _start_of(pid: int) -> int | None:
    """Return when a process started, in ticks since the boot; None: there is none, or a zombie."""
    stat = _text(f"/proc/{pid}/stat")
    fields = stat.rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 and fields[0] not in "ZX" else None


def _text(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text().strip()
    return ""


def _link(path: str) -> str:
    with suppress(OSError):
        return os.readlink(path)
    return ""
