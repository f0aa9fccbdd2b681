"""Prefect artifacts of a run: its progress, the Dask dashboard, the report.

A side thread sends the progress, so that a slow or unreachable server does not delay the blocks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)

from pipeline.report.report import Report, to_markdown

from ..text.progress_line import ProgressLine
from ..text.terminal import ShownRun

UPDATE_EVERY_S = 5.0

_log = logging.getLogger(__name__)


def link_dashboard(link: str) -> None:
    """Create a link artifact for the Dask dashboard."""
    create_link_artifact(
        link, link_text="Dask dashboard", key="dask-dashboard",
        description="Live during the run: task stream, memory, fine performance metrics",
    )  # fmt: skip


@contextmanager
def progress_shown(run: ShownRun, *, key: str = "segment-progress") -> Iterator[None]:
    """Create a progress artifact and keep it up to date while inside."""
    over = threading.Event()
    context = copy_context()

    def report() -> None:
        artifact = create_progress_artifact(0.0, key=key, description="starting")
        text = ProgressLine()
        assert isinstance(artifact, UUID)  # a coroutine only where an event loop runs
        while True:
            ended = over.wait(UPDATE_EVERY_S)
            progress = run.progress()
            update_progress_artifact(artifact, progress.percent, description=text(progress))
            if ended:
                return

    def guarded() -> None:
        try:
            report()
        except Exception as error:
            _log.warning("the progress artifact is no longer updated: %s", error)

    thread = threading.Thread(target=lambda: context.run(guarded), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=2 * UPDATE_EVERY_S)


def show_report(report: Report, *, key: str, description: str) -> None:
    """Create a markdown artifact of the report, with its pictures embedded."""
    create_markdown_artifact(to_markdown(report), key=key, description=description)
