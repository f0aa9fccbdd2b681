"""A training in Prefect's UI: its progress, its figures, and each validation's picture.

A separate thread sends them, so a slow or unreachable server never delays the training.
"""

from __future__ import annotations

import base64
import logging
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from deploy import RanksResumed, TurnChanged
from pipeline.base.text import duration_text, markdown_table, rate_text
from pipeline.report.pictures import png_bytes, read_picture, smaller
from unet.training.messages import StepsDone, Validated

from ..text.training import Pace, message_text
from .progress import UPDATE_EVERY_S

PICTURE_WIDTH = 640
"""Pictures are stored in Prefect's database, one per validation."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LastFigures:
    """The last message of each kind, and what follows from all before."""

    steps: StepsDone | None = None
    seconds_left: float | None = None
    validation: Validated | None = None
    best: Validated | None = None
    resumptions: int = 0
    resumed: RanksResumed | None = None
    turn: TurnChanged | None = None


class TrainingArtifacts:
    """Keeps the last messages, until :meth:`send` sends them."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self._names = list(class_names)
        self._pace = Pace()
        self._last = LastFigures()
        self._validations: deque[Validated] = deque()
        """Those whose picture has not been sent yet."""
        self._progress: UUID | None = None
        self._figures: UUID | None = None

    def hear(self, message: object) -> None:
        """Take a message, without waiting for the server."""
        match message:
            case StepsDone():
                left = self._pace.seconds_left(message)
                self._last = replace(self._last, steps=message, seconds_left=left)
            case Validated():
                self._validations.append(message)
                best = message if message.is_best else self._last.best
                self._last = replace(self._last, validation=message, best=best)
            case RanksResumed():
                count = self._last.resumptions + 1
                self._last = replace(self._last, resumed=message, resumptions=count)
            case TurnChanged():
                self._last = replace(self._last, turn=message)

    def send(self) -> None:
        """Bring the artifacts up to date; what cannot be sent is sent the next time."""
        last = self._last
        self._send_progress(last)
        self._send_figures(figures_markdown(last, names=self._names))
        while self._validations:
            message = self._validations[0]
            create_markdown_artifact(
                validation_markdown(message, names=self._names), key="train-validation",
                description=f"After {message.step} steps: raw, truth and prediction of a slice",
            )  # fmt: skip
            self._validations.popleft()

    def _send_progress(self, last: LastFigures) -> None:
        percent, line = 0.0, "starting"
        if last.steps is not None:
            percent = 100 * last.steps.step / last.steps.steps
            line = message_text(last.steps, seconds_left=last.seconds_left)
        if self._progress is None:
            self._progress = _id(
                create_progress_artifact(percent, key="train-progress", description=line)
            )
        else:
            update_progress_artifact(self._progress, percent, description=line)

    def _send_figures(self, text: str) -> None:
        if self._figures is None:
            self._figures = _id(
                create_markdown_artifact(
                    text, key="train-figures", description="Loss, speed and the last validation"
                )
            )
        else:
            with get_client(sync_client=True) as client:
                client.update_artifact(self._figures, ArtifactUpdate(data=text))


@contextmanager
def training_in_prefect(class_names: Sequence[str]) -> Iterator[TrainingArtifacts]:
    """Yield a listener that keeps the artifacts of this flow run up to date."""
    artifacts = TrainingArtifacts(class_names)
    over = threading.Event()
    context = copy_context()

    def loop() -> None:
        is_unreachable = False
        while True:
            ended = over.is_set()
            try:
                artifacts.send()
                is_unreachable = False
            except Exception as error:
                if not is_unreachable:
                    _log.warning("artifacts could not be sent, trying again: %s", error)
                is_unreachable = True
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


def figures_markdown(last: LastFigures, *, names: Sequence[str]) -> str:
    """Return the last figures as a table."""
    rows: list[tuple[str, str]] = []
    if steps := last.steps:
        rows += [
            ("step", f"{steps.step} of {steps.steps}"),
            ("loss", f"{steps.loss:.4f}"),
            ("learning rate", f"{steps.learning_rate:.2g}"),
            ("patches/s", rate_text(steps.patches_per_s)),
            ("waiting for patches", f"{steps.wait_share:.0%}"),
        ]
    if last.seconds_left is not None:
        rows.append(("time left", duration_text(last.seconds_left)))
    if last.validation:
        rows.append(("validated at step", str(last.validation.step)))
        rows += _scores(last.validation, names)
    if last.best:
        rows.append(("best validation", f"at step {last.best.step}"))
    if last.resumed:
        rows.append(("resumptions", f"{last.resumptions}; the last: {last.resumed.reason}"))
    if last.turn:
        rows.append(("turns", message_text(last.turn)))
    return markdown_table(rows or [("state", "waiting for the workers")])


def validation_markdown(message: Validated, *, names: Sequence[str]) -> str:
    """Return a validation's picture and scores; only the scores if the picture cannot be read."""
    best = ", the best so far" if message.is_best else ""
    title = f"### Validation at step {message.step}{best}"
    table = markdown_table(_scores(message, names))
    try:
        picture = smaller(read_picture(Path(message.picture)), width=PICTURE_WIDTH)
    except OSError as error:
        return f"{title}\n\nNo picture: {error}\n\n{table}"
    png = base64.b64encode(png_bytes(picture)).decode()
    return f"{title}\n\n![raw, truth, prediction](data:image/png;base64,{png})\n\n{table}"


def _scores(message: Validated, names: Sequence[str]) -> list[tuple[str, str]]:
    rows = [("validation loss", f"{message.loss:.4f}")]
    rows.append(("pixel error", f"{message.pixel_error:.4f}"))
    for name, iou, dice in zip(names, message.iou, message.dice, strict=True):
        rows.append((f"IoU, Dice of {name}", f"{iou:.3f}, {dice:.3f}"))
    return rows


def _id(artifact: object) -> UUID:
    assert isinstance(artifact, UUID)  # a coroutine only where an event loop runs
    return artifact
