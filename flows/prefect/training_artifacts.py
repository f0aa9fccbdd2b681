"""What Prefect's UI shows of a training: its progress, its figures, and each validation's picture.

A side thread sends it: a server that is slow or away never holds up the training.
"""

from __future__ import annotations

import base64
import logging
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from pipeline.base.text import duration_text, markdown_table, rate_text
from pipeline.report.pictures import png_bytes, read_picture, smaller

from ..training.progress import Pace, message_text
from .artifacts import UPDATE_EVERY_S

PICTURE_WIDTH = 640
"""Pictures travel through Prefect's database, one for each validation."""

_log = logging.getLogger(__name__)


class TrainingArtifacts:
    """Remembers what was heard last, until :meth:`send` sends it."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self._names = list(class_names)
        self._pace = Pace()
        self._last: dict[str, dict[str, Any]] = {}
        """The last message of each kind."""
        self._seconds_left: float | None = None
        self._resumptions = 0
        self._validations: deque[dict[str, Any]] = deque()
        """Those whose picture has not been sent yet."""
        self._progress: UUID | None = None
        self._figures: UUID | None = None

    def hear(self, message: dict[str, Any]) -> None:
        """Take a message; waits for nobody."""
        self._last[message["kind"]] = message
        if message["kind"] == "step":
            self._seconds_left = self._pace.seconds_left(message)
        elif message["kind"] == "validation":
            self._validations.append(message)
        elif message["kind"] == "resumed":
            self._resumptions += 1

    def send(self) -> None:
        """Bring the artifacts up to date; what could not be sent is sent the next time."""
        step = self._last.get("step", {"step": 0, "steps": 1})
        percent = 100 * step["step"] / step["steps"]
        line = message_text(step, seconds_left=self._seconds_left) if "loss" in step else "starting"
        if self._progress is None:
            self._progress = _id(
                create_progress_artifact(percent, key="train-progress", description=line)
            )
        else:
            update_progress_artifact(self._progress, percent, description=line)
        text = figures_markdown(
            self._last, names=self._names, seconds_left=self._seconds_left,
            resumptions=self._resumptions,
        )  # fmt: skip
        if self._figures is None:
            self._figures = _id(
                create_markdown_artifact(
                    text, key="train-figures", description="Loss, speed and the last validation"
                )
            )
        else:
            with get_client(sync_client=True) as client:
                client.update_artifact(self._figures, ArtifactUpdate(data=text))
        while self._validations:
            message = self._validations[0]
            create_markdown_artifact(
                validation_markdown(message, names=self._names), key="train-validation",
                description=f"After {message['step']} steps: raw, truth and prediction of a slice",
            )  # fmt: skip
            self._validations.popleft()


@contextmanager
def training_in_prefect(class_names: Sequence[str]) -> Iterator[TrainingArtifacts]:
    """Yield a listener that keeps the artifacts of this flow run up to date while inside."""
    artifacts = TrainingArtifacts(class_names)
    over = threading.Event()
    context = copy_context()

    def loop() -> None:
        is_away = False
        while True:
            ended = over.is_set()
            try:
                artifacts.send()
                is_away = False
            except Exception as error:
                if not is_away:
                    _log.warning("artifacts could not be sent, to be tried again: %s", error)
                is_away = True
            if ended:
                return
            over.wait(UPDATE_EVERY_S)

    thread = threading.Thread(target=lambda: context.run(loop), name="artifacts", daemon=True)
    thread.start()
    try:
        yield artifacts
    finally:
        over.set()
        thread.join(timeout=2 * UPDATE_EVERY_S)


def figures_markdown(
    last: dict[str, dict[str, Any]],
    *,
    names: Sequence[str],
    seconds_left: float | None = None,
    resumptions: int = 0,
) -> str:
    """Return the last figures as a table. last: the last message of each kind."""
    rows: list[tuple[str, str]] = []
    if step := last.get("step"):
        rows += [
            ("step", f"{step['step']} of {step['steps']}"),
            ("loss", f"{step['loss']:.4f}"),
            ("learning rate", f"{step['learning_rate']:.2g}"),
            ("patches/s", rate_text(step["patches_per_s"])),
            ("waiting for patches", f"{step['wait_share']:.0%}"),
        ]
    if seconds_left is not None:
        rows.append(("time left", duration_text(seconds_left)))
    if validation := last.get("validation"):
        rows.append(("validated at step", str(validation["step"])))
        rows += _scores(validation, names)
    if resumptions:
        rows.append(("resumptions", f"{resumptions}; the last: {last['resumed']['why']}"))
    if turn := last.get("turn"):
        rows.append(("turns", message_text(turn)))
    return markdown_table(rows or [("state", "waiting for the workers")])


def validation_markdown(message: dict[str, Any], *, names: Sequence[str]) -> str:
    """Return a validation's picture and scores; without the picture where it is not to be had."""
    title = f"### Validation at step {message['step']}"
    table = markdown_table(_scores(message, names))
    try:
        picture = smaller(read_picture(Path(message["picture"])), width=PICTURE_WIDTH)
    except OSError as error:
        return f"{title}\n\nNo picture: {error}\n\n{table}"
    png = base64.b64encode(png_bytes(picture)).decode()
    return f"{title}\n\n![raw, truth, prediction](data:image/png;base64,{png})\n\n{table}"


def _scores(message: dict[str, Any], names: Sequence[str]) -> list[tuple[str, str]]:
    rows = [("validation loss", f"{message['loss']:.4f}")]
    rows.append(("pixel error", f"{message['pixel_error']:.4f}"))
    for name, iou, dice in zip(names, message["iou"], message["dice"], strict=True):
        rows.append((f"IoU, Dice of {name}", f"{iou:.3f}, {dice:.3f}"))
    return rows


def _id(artifact: object) -> UUID:
    assert isinstance(artifact, UUID)  # a coroutine only where an event loop runs
    return artifact
