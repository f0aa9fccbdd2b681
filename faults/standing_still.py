"""Processes that are stopped: one that stops itself in a block, and notes of who worked on it.

:func:`stands_still` is called in a process before its workers are forked from it, as those of
:mod:`faults.inside`. The notes are files of a folder, because the workers are other processes;
their names hold the block, the process and what it did.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .commands import POLL_S, Running

Found = TypeVar("Found")
NAMED_S = 60.0
"""Within this time a worker that stands still is named, and its blocks are given to others."""
HELD_S = 240.0
"""How long a block is held at most: a test that failed does not release it."""
STOPPED, HELD, RELEASE = "stopped", "held", "release"


@dataclass(frozen=True, slots=True)
class Worked:
    """One process's work on a block, in seconds of the system's monotonic clock."""

    pid: int
    began_s: float
    ended_s: float | None


def stands_still(*, folder: str, where: str, stop: list[int], hold: bool) -> None:
    """Stop the first worker that begins the block ``stop``: all its reads and writes come late.

    where: ``module:function`` of a block's work, whose second argument is the block's index. hold:
    the next block waits until the folder has the file ``release``, so that the run cannot end.
    """
    name = where.partition(":")[2]
    module = importlib.import_module(where.partition(":")[0])
    kept, notes = getattr(module, name), Path(folder)

    @functools.wraps(kept)
    def noted(job: Any, at: Any, *rest: Any) -> Any:
        index = list(at)
        _note(notes, index, "began")
        is_next = hold and (notes / STOPPED).exists()
        if index == stop and _is_first(notes / STOPPED):
            os.kill(os.getpid(), signal.SIGSTOP)
        elif is_next and _is_first(notes / HELD):
            _wait_for(notes / RELEASE)
        result = kept(job, at, *rest)
        _note(notes, index, "ended")
        return result

    for one in list(sys.modules.values()):  # and where it has been imported
        if vars(one).get(name) is kept:
            setattr(one, name, noted)


def stopped_worker(folder: Path) -> int | None:
    """Return the worker that stopped itself; None while none has."""
    found = folder / STOPPED
    return int(found.read_text() or 0) or None if found.exists() else None


def worked(folder: Path, index: Sequence[int]) -> list[Worked]:
    """Return who has worked on a block, the one that began first at the front."""
    began, ended = (
        {int(path.suffixes[0][1:]): float(path.read_text() or 0) for path in folder.glob(pattern)}
        for pattern in (f"{_named(index)}.*.began", f"{_named(index)}.*.ended")
    )
    return sorted(
        (Worked(pid, at, ended.get(pid)) for pid, at in began.items()), key=lambda one: one.began_s
    )


def sent(number: int, *pids: int) -> bool:
    """Send a signal to processes; return whether all of them were there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
    return True


def until(
    what: Callable[[], Found], running: Running | None = None, *, within_s: float = NAMED_S
) -> Found | None:
    """Wait until this returns something and return that; None if the command ended before.

    Raises AssertionError if it is late.
    """
    end = time.monotonic() + within_s
    while not (found := what()):
        if running is not None and running.poll() is not None:
            return None
        assert time.monotonic() < end, f"not within {within_s:.0f} s"
        time.sleep(5 * POLL_S)
    return found


def silent_lines(text: str) -> list[str]:
    """Return the lines that name a worker that stands still; the progress is left out."""
    return re.findall(r"worker \S+ on \S+ has been silent for [^\r\n]*", text)


def _named(index: Sequence[int]) -> str:
    return "-".join(map(str, index))


def _note(folder: Path, index: Sequence[int], what: str) -> None:
    path = folder / f"{_named(index)}.{os.getpid()}.{what}"
    path.with_suffix(".partial").write_text(str(time.monotonic()))
    path.with_suffix(".partial").rename(path)


def _is_first(path: Path) -> bool:
    """Return whether this process is the first; its number is then in the file."""
    try:
        with path.open("x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return False
    return True


def _wait_for(path: Path) -> None:
    until = time.monotonic() + HELD_S
    while not path.exists() and time.monotonic() < until:
        time.sleep(POLL_S)
