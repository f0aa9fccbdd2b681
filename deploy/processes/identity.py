"""Which process a record means: its number alone is another process's on another machine, or later.

A home is often shared by several machines and containers, and each counts its processes from 1.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import psutil

Record = TypeVar("Record", bound="ProcessIdentity")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """One process among those of all machines and all times."""

    host: str
    boot: str
    """Of the machine's current start: another one after each restart."""
    user: int
    """Its number, as the machine knows it."""
    namespace: str
    """Of process numbers: a container counts its own on the same machine, from 1."""
    pid: int
    start: str
    """When the process began, as its machine counts; setting the clock does not change it."""

    @property
    def key(self) -> tuple[str, str, int, str, int, str]:
        """What identifies the process; records of it may hold more."""
        return self.host, self.boot, self.user, self.namespace, self.pid, self.start

    def is_alive_here(self) -> bool:
        """Return whether exactly this process runs on this machine, for this user."""
        found = identify(self.pid)
        return found is not None and found.key == self.key and self.user == os.getuid()

    def has_ended(self) -> bool:
        """Return whether this process has certainly ended.

        False where it cannot be seen from here: on another machine, or in another container.
        """
        if self.host != socket.gethostname():
            return False
        if self.boot != boot_id():
            return True
        if self.namespace != _namespace():
            return False
        found = identify(self.pid)
        return not _exists(self.pid) if found is None else found.start != self.start

    def send(self, number: signal.Signals) -> None:
        """Send a signal to exactly this process; do nothing if it has ended."""
        try:
            handle = os.pidfd_open(self.pid)  # from here on, the number cannot be another's
        except ProcessLookupError:
            return
        except (AttributeError, OSError):  # not Linux, or an old one
            if self.is_alive_here():
                os.kill(self.pid, number)
            return
        try:
            if self.is_alive_here():
                signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)


def identify(pid: int) -> ProcessIdentity | None:
    """Return the identity of a process of this machine; None if there is no such process."""
    try:
        process = psutil.Process(pid)
        user, start = process.uids().real, _start_of(process)
    except (psutil.Error, OSError, ValueError, OverflowError):
        return None
    return ProcessIdentity(
        host=socket.gethostname(), boot=boot_id(), user=user, namespace=_namespace(), pid=pid,
        start=start,
    )  # fmt: skip


def booted_at() -> float:
    """Return when this machine started, in seconds of its clock."""
    return psutil.boot_time()


@cache
def boot_id() -> str:
    """Return what identifies the current start of this machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return str(int(psutil.boot_time()))


def read_record(kind: type[Record], values: Mapping[str, Any] | None) -> Record | None:
    """Return a record that was stored as a mapping.

    None if it lacks a field, because an earlier version wrote it, or it is damaged. Fields that
    this version does not know are ignored.
    """
    known = {field.name for field in fields(kind)}
    try:
        record = kind(**{name: value for name, value in (values or {}).items() if name in known})
    except TypeError:
        return None
    types = [type(value) for value in record.key]
    return record if types == [str, str, int, str, int, str] else None


def _exists(pid: int) -> bool:
    """Return whether there is a process of this number, also one that is hidden from this user."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _namespace() -> str:
    """Return which process numbers this process sees: those of the machine or of a container."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        return ""


def _start_of(process: psutil.Process) -> str:
    """Return when a process began: on Linux, in ticks since the machine's start.

    psutil converts them with the clock, whose setting may change meanwhile.
    """
    try:
        text = Path(f"/proc/{process.pid}/stat").read_bytes()
    except OSError:  # not Linux
        return repr(process.create_time())
    return text.rpartition(b")")[2].split()[19].decode()  # the name in brackets may hold anything
