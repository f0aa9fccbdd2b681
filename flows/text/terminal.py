"""Progress of a run: a bar at a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from pipeline.base.text import counted, printable_lines

from .progress_line import ProgressLine

if TYPE_CHECKING:
    from pipeline.ledger.progress import Progress

BAR_EVERY_S = 0.25
BAR_COLUMNS = 16
"""The numbers need the rest of a terminal's 80."""
COUNT_EVERY_S = 5.0
PLAIN_SHORTEST_S, PLAIN_LONGEST_S = 2.0, 60.0
"""Pause between plain lines: short at first, a minute later on, so that logs stay short."""


class ShownRun(Protocol):
    """A run whose progress is shown."""

    @property
    def resumed_blocks(self) -> int:
        """Blocks that were done when the run began."""

    @property
    def blocks(self) -> int:
        """Blocks of the run; completed and skipped ones included."""

    def progress(self) -> Progress:
        """Return how far the run is."""


_status = threading.Lock()
_is_shown = False
"""Whether the terminal's last line is the status."""


def say(text: str) -> None:
    """Print a line to standard error at once; standard output is for results.

    Names from files and from users cannot move the cursor or hide what follows: see `printable`.
    """
    clear_status()
    print(printable_lines(text), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Print a result, of one or more lines, to standard output; escaped as by :func:`say`."""
    print(printable_lines(text))


def show_status(text: str) -> None:
    """Show on a terminal what is being done, in a line that the next one replaces.

    Elsewhere nothing is printed, so that an error stays one line.
    """
    global _is_shown
    if sys.stderr is None or not sys.stderr.isatty():
        return
    with _status:
        line = f"{text} …"[: _columns() - 1]
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        _is_shown = True


def clear_status() -> None:
    """Remove the line of :func:`show_status`, if it is shown."""
    global _is_shown
    with _status:
        if _is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            _is_shown = False


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


class Counter:
    """Prints how much is done, every few seconds and at the end."""

    def __init__(self, things: str) -> None:
        self._things = things
        self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Print a line if the last one is old enough, or if this is the end."""
        if time.monotonic() - self._last >= COUNT_EVERY_S or done == total:
            self._last = time.monotonic()
            say(f"{done:,}/{total:,} {self._things}")


@contextmanager
def shown(run: ShownRun) -> Iterator[None]:
    """Show the run's progress while inside. The run never waits for this."""
    _say_resumed(run, say)
    with _bar(run) if sys.stderr.isatty() else _lines(run, say):
        yield


@contextmanager
def logged(run: ShownRun, log: Callable[[str], None]) -> Iterator[None]:
    """Log the run's progress as plain lines while inside. The run never waits for this."""
    _say_resumed(run, log)
    with _lines(run, log):
        yield


def _say_resumed(run: ShownRun, say: Callable[[str], None]) -> None:
    if run.resumed_blocks:
        progress = run.progress()
        if not progress.left:
            say(f"no block to compute: {counted(run.resumed_blocks, 'block')} done by earlier runs")
        else:
            say(f"resuming: {run.resumed_blocks} of {progress.computed} blocks are done already")


@contextmanager
def _lines(run: ShownRun, say: Callable[[str], None]) -> Iterator[None]:
    start = time.monotonic()

    def pause_s() -> float:
        return min(PLAIN_LONGEST_S, max(PLAIN_SHORTEST_S, (time.monotonic() - start) / 5))

    with _repeating(pause_s, _changed_lines(run, say)):
        yield


def _changed_lines(run: ShownRun, say: Callable[[str], None] = say) -> Callable[[], None]:
    """Return a function that prints the progress if it has changed, or a minute has passed."""
    last, printed, text = "", 0.0, ProgressLine(with_percent=True)

    def show() -> None:
        nonlocal last, printed
        line, now = text(run.progress()), time.monotonic()
        if line != last or now - printed >= PLAIN_LONGEST_S:
            last, printed = line, now
            say(line)

    return show


@contextmanager
def _bar(run: ShownRun) -> Iterator[None]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        BarColumn(BAR_COLUMNS),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task, text = bar.add_task("segment", total=run.blocks, text=""), ProgressLine()

        def update() -> None:
            progress = run.progress()
            bar.update(
                task, completed=progress.worked, total=progress.computed, text=text(progress)
            )  # fmt: skip

        update()
        with _repeating(lambda: BAR_EVERY_S, update):
            try:
                yield
            finally:
                update()


@contextmanager
def _repeating(pause_s: Callable[[], float], call: Callable[[], None]) -> Iterator[None]:
    """Call a function repeatedly from a thread while inside."""
    over = threading.Event()

    def loop() -> None:
        while not over.wait(pause_s()):
            call()

    thread = threading.Thread(target=loop, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
