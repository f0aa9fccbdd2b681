"""How far a training is, from its folder alone: it may run on another machine, or not at all."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pipeline.base.errors import TrainingError
from pipeline.base.json_text import MOST_BYTES, inner_object, json_value
from pipeline.base.location import Location

from .logs import COLUMNS
from .ownership import OWNER

LOG = "log.csv"
TAIL_BYTES: Final = 2**18
"""So much of the end of a log is read: some thousand steps."""
MEAN_OF: Final = 100
"""The loss is the mean of so many steps."""
_CHECKPOINT = re.compile(r"checkpoint-(\d{8,15})\.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStatus:
    """What the folder of a training states."""

    directory: Path
    weights: Path | None
    """The weights file, once it exists."""
    saved_step: int
    """Of the last checkpoint; 0 without one."""
    done_step: int
    """The last one in the log. What is not in the checkpoint is repeated after a sudden end."""
    steps: int | None
    """How many there will be; None before the first checkpoint, also before the first one of a
    finished training that is being made longer."""
    loss: float | None
    """Mean of the last steps."""
    validation: Mapping[str, float] = field(hash=False)
    """The last one: ``step``, ``loss``, ``pixel_error``, ``mean_iou``; empty without one."""
    steps_per_s: float | None
    written: datetime | None
    stopped_early: bool = False
    """Whether the last checkpoint is the end, as no validation was better for too long."""

    @property
    def is_complete(self) -> bool:
        """Whether there are no more steps to do, and the weights are written."""
        is_over = self.stopped_early or self.saved_step == self.steps
        return self.weights is not None and is_over and self.done_step == self.saved_step

    @property
    def seconds_left(self) -> float | None:
        """Time for the steps that are left, without validations; None if it is not known."""
        if self.steps is None or not self.steps_per_s or self.stopped_early:
            return None
        return max(0, self.steps - self.done_step) / self.steps_per_s


def find_training(place: str) -> tuple[Path, Path] | None:
    """Return the folder and the weights file of a training; None for anything else.

    place: either of them. The weights file need not exist yet.
    """
    if "://" in place:
        return None
    path = Location.parse(place, kind=TrainingError).path
    with suppress(OSError, ValueError):
        if path.is_dir():
            weights = path.with_name(f"{path.stem}.safetensors")
            return (path, weights) if _is_training(path) else None
        directory = path.with_name(f"{path.stem}.training")
        if (path.suffix == ".safetensors" or path.is_file()) and _is_training(directory):
            return directory, path
    return None


def read_training_status(directory: Path, weights: Path) -> TrainingStatus:
    """Return the status of a training of :func:`find_training`; damaged files count as missing."""
    saved_step, record = _last_checkpoint(directory)
    rows = list(_last_rows(directory / LOG))
    losses = [loss for row in rows if (loss := _number(row, "loss")) is not None]
    rates = [rate for row in rows if (rate := _number(row, "patches_per_s")) is not None]
    batch, training = record.get("batch"), inner_object(inner_object(record, "recipe"), "training")
    done_step = max([saved_step, *(int(_number(row, "step") or 0) for row in rows[-1:])])
    steps = training.get("steps")
    if isinstance(steps, int) and done_step > steps:  # a finished one that is being made longer
        steps = None
    return TrainingStatus(
        directory=directory,
        weights=weights if weights.is_file() else None,
        saved_step=saved_step,
        done_step=done_step,
        steps=steps if isinstance(steps, int) else None,
        loss=sum(losses[-MEAN_OF:]) / len(losses[-MEAN_OF:]) if losses else None,
        validation=_last_validation(rows),
        steps_per_s=rates[-1] / batch if rates and isinstance(batch, int) and batch > 0 else None,
        written=_written(directory),
        stopped_early=record.get("stopped_early") is True,
    )


def _is_training(path: Path) -> bool:
    if not path.is_dir():
        return False
    return bool(_checkpoints(path)) or (path.suffix == ".training" and (path / OWNER).is_file())


def _checkpoints(directory: Path) -> list[tuple[int, Path]]:
    """Return the checkpoints by their steps, the last one first."""
    named = ((_CHECKPOINT.fullmatch(path.name), path) for path in directory.iterdir())
    return sorted(((int(found[1]), path) for found, path in named if found), reverse=True)


def _last_checkpoint(directory: Path) -> tuple[int, Mapping[str, Any]]:
    """Return step and record of the last checkpoint that can be read; 0 and {} without one."""
    for step, path in _checkpoints(directory):
        with suppress(OSError, ValueError, AttributeError, KeyError, TypeError):
            return step, dict(_record(path))
    return 0, {}


def _record(path: Path) -> Mapping[str, Any]:
    """Return what a checkpoint records, from its header; see checkpoint.py."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json_value(file.read(length)) if length <= MOST_BYTES else {}
    record: Mapping[str, Any] = json_value(header["__metadata__"]["record"])
    return record


def _last_rows(path: Path) -> Iterator[Mapping[str, str]]:
    """Yield the last whole rows of a log; none of what is not one."""
    with suppress(OSError, ValueError, csv.Error), path.open("rb") as file:
        heading = file.readline()
        size = path.stat().st_size
        start = max(len(heading), size - TAIL_BYTES)
        file.seek(start)
        tail = file.read(TAIL_BYTES).decode()
        if start > len(heading):
            tail = tail.partition("\n")[2]
        whole = tail[: tail.rfind("\n") + 1]
        if tuple(heading.decode().strip().split(",")) == COLUMNS:
            yield from csv.DictReader(io.StringIO(whole, newline=""), COLUMNS)


def _last_validation(rows: list[Mapping[str, str]]) -> dict[str, float]:
    names = {"loss": "validation_loss", **{n: n for n in ("step", "pixel_error", "mean_iou")}}
    for row in reversed(rows):
        values = {name: _number(row, column) for name, column in names.items()}
        if None not in values.values():
            return {name: value for name, value in values.items() if value is not None}
    return {}


def _number(row: Mapping[str, str], name: str) -> float | None:
    with suppress(ValueError, TypeError):
        value = float(row[name])
        return value if math.isfinite(value) else None
    return None


def _written(directory: Path) -> datetime | None:
    with suppress(OSError):
        times = [path.stat().st_mtime for path in directory.iterdir() if path.is_file()]
        return datetime.fromtimestamp(max(times), UTC) if times else None
    return None
