"""The status of a training as text, and as JSON values."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pipeline.base.text import aligned_rows, duration_text, rate_text
from unet.training.status import TrainingStatus

from .ago import ago_text


def training_status_text(status: TrainingStatus, *, now: datetime) -> str:
    """Return the status as aligned lines."""
    return aligned_rows([("", str(status.directory)), *_rows(status, now)])


def _rows(status: TrainingStatus, now: datetime) -> Iterator[tuple[str, str]]:
    yield "stage", _stage_text(status)
    yield "steps", _steps_text(status)
    if status.loss is not None:
        yield "loss", f"{status.loss:.4f}, mean of the last steps"
    if scores := status.validation:
        yield (
            "validation",
            f"at step {int(scores['step']):,}: pixel error {scores['pixel_error']:.4f}, mean IoU "
            f"{scores['mean_iou']:.3f}",
        )
    if status.steps_per_s:
        yield "speed", f"{rate_text(status.steps_per_s)} steps/s"
    if status.seconds_left:
        yield "left", f"{duration_text(status.seconds_left)} at this speed, without validations"
    yield "last written", ago_text(status.written, now)
    if status.weights is not None:
        yield "weights", str(status.weights)


def _stage_text(status: TrainingStatus) -> str:
    if status.is_complete:
        return "complete: stopped early" if status.stopped_early else "complete"
    return "not complete: a training is writing it, or must be resumed with --resume"


def _steps_text(status: TrainingStatus) -> str:
    """Return the steps that are done; 100 % only if all are."""
    if status.steps is None:
        saved = f"{status.saved_step:,} are saved" if status.saved_step else "no checkpoint yet"
        return f"{status.done_step:,}; {saved}"
    share = status.done_step * 1000 // status.steps / 10 if status.steps else 100.0
    saved = "" if status.saved_step == status.done_step else f"; {status.saved_step:,} are saved"
    return f"{status.done_step:,} of {status.steps:,} done, {share:.1f} %{saved}"


def training_status_json(status: TrainingStatus) -> dict[str, Any]:
    """Return the status as JSON values; ``done`` counts the steps that a job need not repeat."""
    return {
        "training": str(status.directory),
        "weights": str(status.weights) if status.weights else None,
        "complete": status.is_complete,
        "done": status.saved_step,
        "logged": status.done_step,
        "steps": status.steps,
        "loss": status.loss,
        "validation": dict(status.validation) or None,
        "steps_per_s": status.steps_per_s,
        "seconds_left": status.seconds_left,
        "last_written": status.written.isoformat() if status.written else None,
    }
