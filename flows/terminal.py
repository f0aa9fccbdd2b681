"""Progress of a run for a person at a terminal, and plain lines where there is none."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.run import Progress, SegmentRun

PLAIN_EVERY_S = 10.0
BAR_EVERY_S = 0.25


def say(text: str) -> None:
    """Print one line for a person, at once; standard output stays for results."""
    print(text, file=sys.stderr, flush=True)


def duration_text(seconds: float) -> str:
    """Return seconds as a person reads them.

    >>> duration_text(3725)
    '1 h 02 min'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def progress_text(progress: Progress) -> str:
    """Return one plain line: how far, how fast, how long still."""
    if progress.stage != "segment":
        return f"{progress.done}/{progress.blocks} blocks, building the pyramid"
    done_here = progress.done - progress.done_before
    seconds = max(progress.seconds, 1e-9)
    line = f"{progress.done}/{progress.blocks} blocks"
    if done_here:
        left = (progress.blocks - progress.done) * seconds / done_here
        line += (
            f", {done_here / seconds:.2f} blocks/s, "
            f"{progress.voxels_done / seconds / 1e6:.2f} Mvoxel/s, "
            f"{duration_text(left)} left"
        )
    return line + (f", {progress.set_aside} set aside" if progress.set_aside else "")


@contextmanager
def shown(run: SegmentRun) -> Iterator[None]:
    """Show the run's progress while inside; asks the run, never holds it up."""
    if run.resumed_blocks:
        say(f"resuming: {run.resumed_blocks} of {len(run.prepared.plan)} blocks are done already")
    with _bar(run) if sys.stderr.isatty() else _lines(run):
        yield


@contextmanager
def _lines(run: SegmentRun) -> Iterator[None]:
    with _repeating(PLAIN_EVERY_S, lambda: say(progress_text(run.progress()))):
        yield


@contextmanager
def _bar(run: SegmentRun) -> Iterator[None]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("segment", total=len(run.prepared.plan), text="")

        def update() -> None:
            progress = run.progress()
            bar.update(task, completed=progress.done, text=progress_text(progress))

        with _repeating(BAR_EVERY_S, update):
            yield
        update()


@contextmanager
def _repeating(every_s: float, call: object) -> Iterator[None]:
    """Call something every so often from a side thread while inside."""
    assert callable(call)
    over = threading.Event()

    def loop() -> None:
        while not over.wait(every_s):
            call()

    thread = threading.Thread(target=loop, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
