"""A training on the terminal while it runs: a live line, or plain lines in a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deploy import RanksResumed, TurnChanged
from pipeline.base.text import counted, duration_text, rate_text, shape_text
from unet.samples.rules.registry import outputs_of
from unet.training.event_file import tensorboard_is_installed
from unet.training.messages import Listener, Note, StepsDone, Validated
from unet.training.prepare import PreparedTraining

from .terminal import BAR_COLUMNS, say
from .training_end import schedule_lines
from .training_start import start_text

LINE_EVERY_S = 10.0
SHOWN_SHARE = 0.05
"""Of the time, waited for samples, from which a bar shows it."""


class Pace:
    """The time to the end of a training, from the steps done since the first message."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def seconds_left(self, message: StepsDone) -> float | None:
        """Return the seconds from a message to the end of the training; None for the first one."""
        step, now = message.step, time.monotonic()
        if self._first is None or step <= self._first[1]:
            self._first = now, step
            return None
        began, first = self._first
        return (now - began) / (step - first) * (message.steps - step)


class WaitShare:
    """The share of a training in which its network waited for samples."""

    def __init__(self) -> None:
        self._all_s = self._waited_s = 0.0

    def hear(self, message: StepsDone) -> None:
        """Add the steps of a message; every step has as many patches."""
        seconds = len(message.losses) / message.patches_per_s if message.patches_per_s else 0.0
        self._all_s += seconds
        self._waited_s += message.wait_share * seconds

    def text(self) -> str:
        """Return the line for the end of the training."""
        share = self._waited_s / self._all_s if self._all_s else 0.0
        return f"the network waited for samples in {share:.0%} of the time"


class TerminalLines:
    """A line every ten seconds, and one for each validation."""

    def __init__(self, write: Callable[[str], None] = say) -> None:
        self._write = write
        self._written_at = -LINE_EVERY_S
        self._pace, self._waiting = Pace(), WaitShare()

    def hear(self, message: object) -> None:
        """Write the message as a line, if one is due."""
        if not isinstance(message, StepsDone):
            self._write(message_text(message))
            return
        left = self._pace.seconds_left(message)
        self._waiting.hear(message)
        is_last = message.step == message.steps
        if is_last or time.monotonic() - self._written_at >= LINE_EVERY_S:
            self._written_at = time.monotonic()
            self._write(message_text(message, seconds_left=left))
        if is_last:
            self._write(self._waiting.text())


class TerminalBar:
    """A bar with the last figures beside it; other messages scroll by above it."""

    def __init__(self, update: Callable[[int, int, str], None]) -> None:
        """``update`` takes steps done, all steps, and the text beside the bar."""
        self._update = update
        self._pace, self._waiting = Pace(), WaitShare()
        self._mean_iou: float | None = None

    def hear(self, message: object) -> None:
        """Move the bar, or write the message above it."""
        if isinstance(message, StepsDone):
            left = self._pace.seconds_left(message)
            text = bar_text(message, mean_iou=self._mean_iou, seconds_left=left)
            self._update(message.step, message.steps, text)
            self._waiting.hear(message)
            if message.step == message.steps:
                say(self._waiting.text())
            return
        if isinstance(message, Validated):
            self._mean_iou = message.mean_iou
        say(message_text(message))


@contextmanager
def shown_on_terminal() -> Iterator[Listener]:
    """Yield a listener that shows a training: a live line if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield TerminalLines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    text = TextColumn("{task.fields[text]}")
    with Progress(BarColumn(BAR_COLUMNS // 2), text, console=Console(stderr=True)) as bar:
        task = bar.add_task("train", total=None, text="waiting for the workers")

        def update(step: int, steps: int, text: str) -> None:
            bar.update(task, completed=step, total=steps, text=text)

        yield TerminalBar(update)


def start_lines(prepared: PreparedTraining) -> list[str]:
    """Return what the training will do, a line each."""
    network, training = prepared.recipe.network, prepared.recipe.training
    lines = [
        f"training a {network.dims}-D U-Net of {network.parameters:,} parameters, preset "
        f"{training.preset}, {counted(training.steps, 'step')} of patches of "
        f"{shape_text(prepared.core)} voxels"
    ]
    outputs = outputs_of(prepared.recipe.labels, dims=network.dims)
    if not outputs.has_classes:
        lines.append(f"learn {outputs.kind}: {', '.join(prepared.recipe.class_names or ())}")
    if prepared.start is not None:
        lines.append(start_text(prepared, prepared.start))
    for part, boxes in (
        ("train", prepared.volumes.training),
        ("validate", prepared.volumes.validation),
    ):
        lines += [f"{part} on {box.name}, {shape_text(box.shape_zyx)} voxels" for box in boxes]
    lines += [f"voxel size: {size}" for size in prepared.volumes.voxel_size_lines]
    lines += [f"note: {note}" for note in prepared.notes]
    lines += schedule_lines(prepared)
    if prepared.done_steps:
        lines.append(f"resuming: {prepared.done_steps} of {training.steps} steps are done")
    if not tensorboard_is_installed():
        lines.append("no files for TensorBoard; to get them, pip install 'overtile[tensorboard]'")
    return lines


def message_text(message: object, *, seconds_left: float | None = None) -> str:
    """Return a message of a training as one line."""
    match message:
        case StepsDone():
            left = f", {duration_text(seconds_left)} left" if seconds_left is not None else ""
            return (
                f"step {message.step}/{message.steps}: loss {message.loss:.4f}, learning rate "
                f"{message.learning_rate:.2g}, {rate_text(message.patches_per_s)} patches/s, "
                f"{message.wait_share:.0%} waiting for samples{left}"
            )
        case Validated():
            names = message.names or ("",) * len(message.iou)
            pairs = zip(names, message.iou, strict=True)
            iou = ", ".join(f"{name} {value:.3f}".strip() for name, value in pairs)
            best = ", the best so far" if message.is_best else ""
            at = f"at step {message.step}" if message.step else "before the first step"
            return (
                f"validation {at}: pixel error {message.pixel_error:.4f}, "
                f"IoU {iou}{best} ({message.picture})"
            )
        case TurnChanged(holder="others"):
            return "other tasks use the workers now"
        case TurnChanged():
            return "the workers train again"
        case RanksResumed(reason=reason, world_size=ranks):
            return f"{reason}: resuming from the last checkpoint with {counted(ranks, 'rank')}"
        case Note(text=text):
            return f"note: {text}"
    raise TypeError(f"not a message of a training: {message!r}")


def bar_text(
    message: StepsDone, *, mean_iou: float | None = None, seconds_left: float | None = None
) -> str:
    """Return the last steps, and the last validation's score, for a line of 80 columns.

    If the network waits for samples, their share stands in place of the learning rate.

    >>> step = StepsDone(step=1200, steps=2000, loss=0.1234, losses=(0.1234,),
    ...                  learning_rate=9.8e-4, patches_per_s=12.3, wait_share=0.02)
    >>> bar_text(step, mean_iou=0.81, seconds_left=3725)
    '1200/2000 loss 0.1234 lr 0.00098 IoU 0.810 12.30 patches/s 1 h 02 min left'
    """
    parts = [
        f"{message.step}/{message.steps}",
        f"loss {message.loss:.4f}",
        f"wait {message.wait_share:.0%}"
        if message.wait_share > SHOWN_SHARE
        else f"lr {message.learning_rate:.2g}",
    ]
    if mean_iou is not None:
        parts.append(f"IoU {mean_iou:.3f}")
    parts.append(f"{rate_text(message.patches_per_s)} patches/s")
    if seconds_left is not None:
        parts.append(f"{duration_text(seconds_left)} left")
    return " ".join(parts)
