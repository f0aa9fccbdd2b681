"""What a run does, and how far it is, in Prefect's log and as a progress artifact.

From the first moment: what is being done, then the shell's line about blocks, speed and time left.
A side thread sends the artifact, so that a slow or unreachable server does not delay the blocks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from ..text.progress_line import ProgressLine
from ..text.terminal import ShownRun, logged

UPDATE_EVERY_S = 5.0

_log = logging.getLogger(__name__)


class PrefectProgress:
    """What the artifact states now; any thread may change it."""

    def __init__(self, log: Callable[[str], None], *, doing: str) -> None:
        """log: writes a line to Prefect's log."""
        self._log = log
        self._run: ShownRun | None = None
        self._text, self._line = doing, ProgressLine()
        self.is_stopped = False
        """Set when the run ends before it is done."""
        self.changed = threading.Event()
        """Set when there is something new to send at once."""
        log(doing)

    def say(self, text: str) -> None:
        """Write a line to the log; until blocks are computed, the artifact states it too."""
        self._log(text)
        if self._run is None:
            self._text = text
            self.changed.set()

    def doing(self, text: str) -> None:
        """State what is done next, unless the last line ends with it."""
        if not self._text.endswith(text):
            self.say(text)

    @contextmanager
    def watch(self, run: ShownRun) -> Iterator[None]:
        """Follow a run while inside, in log and artifact."""
        self._run = run
        self.changed.set()
        with logged(run, self._log):
            yield

    def now(self) -> tuple[float, str]:
        """Return the percentage and the line of this moment."""
        end = ", stopped" if self.is_stopped else ""
        if self._run is None:
            return 0.0, self._text + end
        progress = self._run.progress()
        return progress.percent, self._line(progress) + end


@contextmanager
def progress_in_prefect(
    log: Callable[[str], None], *, key: str, doing: str
) -> Iterator[PrefectProgress]:
    """Create a progress artifact and keep it up to date while inside.

    doing: what is done first.
    """
    progress = PrefectProgress(log, doing=doing)
    over, context = threading.Event(), copy_context()
    artifact: UUID | None = None

    def send() -> None:
        nonlocal artifact
        percent, text = progress.now()
        if artifact is None:
            made = create_progress_artifact(percent, key=key, description=text)
            assert isinstance(made, UUID)  # a coroutine only where an event loop runs
            artifact = made
        else:
            update_progress_artifact(artifact, percent, description=text)

    def loop() -> None:
        is_unreachable = False
        while True:
            ended = over.is_set()
            progress.changed.clear()
            try:
                send()
                is_unreachable = False
            except Exception as error:
                if not is_unreachable:
                    _log.warning("the progress could not be sent, trying again: %s", error)
                is_unreachable = True
            if ended:
                return
            progress.changed.wait(UPDATE_EVERY_S)

    thread = threading.Thread(target=lambda: context.run(loop), name="progress", daemon=True)
    thread.start()
    try:
        yield progress
    except BaseException:
        progress.is_stopped = True
        raise
    finally:
        over.set()
        progress.changed.set()
        thread.join(timeout=2 * UPDATE_EVERY_S)
