"""What a training leaves behind to read later: a CSV file, and files for TensorBoard."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import chain, count
from pathlib import Path
from typing import Any

from pipeline.base.errors import TrainingFailedError

from .event_file import EventFile, tensorboard_is_installed
from .messages import Listener, StepsDone, Validated

COLUMNS = (
    "step", "loss", "learning_rate", "patches_per_s", "wait_share", "validation_loss",
    "pixel_error", "mean_iou", "best",
)  # fmt: skip
"""Of the log; ``best`` marks each validation that was the best so far with a star."""
BEFORE = COLUMNS[:-1]
"""Of logs of earlier versions, which are continued."""


def file_logs(directory: Path, *, note: Callable[[str], None]) -> list[Listener]:
    """Return the logs that lie beside the checkpoints; they are created by the first message.

    note: called with a line if an existing log cannot be continued.
    """
    logs: list[Listener] = [CsvLog(directory / "log.csv", note=note)]
    if tensorboard_is_installed():
        logs.append(TensorBoardLog(directory / "tensorboard"))
    return logs


class CsvLog:
    """A row for each step, and one for each validation; no step appears twice.

    A training that resumes from a checkpoint repeats some steps: their first rows are dropped.
    A file that is not such a log, or is damaged, is renamed, and a new one begun.
    """

    def __init__(self, path: Path, *, note: Callable[[str], None] = lambda line: None) -> None:
        self._path, self._note = path, note
        self._last_step: int | None = None
        """The last step in the file; None: not read yet."""

    def hear(self, message: object) -> None:
        """Append the rows of steps, or of a validation."""
        if not isinstance(message, StepsDone | Validated):
            return
        rows = _rows(message)
        with _written(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._last_step is None:
                self._last_step = max(map(_step, self._rows_before()), default=0)
            first = rows[0]["step"]
            if isinstance(message, StepsDone) and first <= self._last_step:
                self._replace([row for row in self._rows_before() if _step(row) < first])
            self._append(rows)
        self._last_step = message.step

    def _rows_before(self) -> list[dict[str, Any]]:
        """Return the rows of an earlier start; rename a file that cannot be read."""
        try:
            rows = self._read()
        except ValueError as error:
            aside = _unused(self._path.with_name(f"{self._path.name}.damaged"))
            os.replace(self._path, aside)
            self._note(
                f"{self._path.name} is not a training log ({error}): it was renamed to {aside.name}"
            )
            return []
        if self._path.exists():
            self._replace(rows)  # without the half of a row that a full disk may have left
        return rows

    def _read(self) -> list[dict[str, Any]]:
        """Return the rows. Raises ValueError for a file that is not a log."""
        if not self._path.exists():
            return []
        text = self._path.read_bytes().decode()
        reader = csv.DictReader(io.StringIO(text, newline=""))
        try:
            if tuple(reader.fieldnames or ()) not in (COLUMNS, BEFORE):
                raise ValueError("it has other columns")
            rows = list(reader)
        except csv.Error as error:
            raise ValueError(str(error)) from error
        whole = rows if text.endswith("\n") else rows[:-1]
        return [row for row in whole if str(row["step"]).isdecimal() and len(row["step"]) < 16]

    def _replace(self, rows: list[dict[str, Any]]) -> None:
        aside = self._path.with_name(f".{self._path.name}")
        with aside.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(aside, self._path)

    def _append(self, rows: list[dict[str, Any]]) -> None:
        if not self._path.exists():
            self._replace([])
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerows(rows)


class TensorBoardLog:
    """Scalars and validation pictures for TensorBoard."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: EventFile | None = None

    def hear(self, message: object) -> None:
        """Write the numbers of a message, and its picture."""
        if not isinstance(message, StepsDone | Validated):
            return
        group = "training" if isinstance(message, StepsDone) else "validation"
        numbers = {
            f"{group}/{name}": value
            for name, value in asdict(message).items()
            if isinstance(value, float)
        }
        pngs = {}
        if isinstance(message, Validated) and message.picture:
            with suppress(OSError):  # rank 0 wrote it on another machine: it may be seen late
                pngs["validation/slice"] = Path(message.picture).read_bytes()
        with _written(self._directory):
            if self._file is None:
                self._file = EventFile(self._directory, first_step=message.step)
            self._file.add(message.step, numbers=numbers, pngs=pngs)


def _rows(message: StepsDone | Validated) -> list[dict[str, Any]]:
    """Return a row per step; what was measured over several steps is in the last one's."""
    values = asdict(message)
    if isinstance(message, Validated):
        row = {name: values.get(name) for name in COLUMNS}
        best = "*" if message.is_best else None
        return [row | {"loss": None, "validation_loss": message.loss, "best": best}]
    first = message.step - len(message.losses) + 1
    rows: list[dict[str, Any]] = [
        {"step": step, "loss": loss} for step, loss in enumerate(message.losses, start=first)
    ]
    rows[-1] |= {name: values[name] for name in COLUMNS[2:5]}
    return rows


def _unused(path: Path) -> Path:
    """Return a path, with a number appended if it exists."""
    numbered = (path.with_name(f"{path.name}-{number}") for number in count(2))
    return next(one for one in chain([path], numbered) if not one.exists())


def _step(row: dict[str, Any]) -> int:
    return int(row["step"])


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Report a full disk, or one without permission to write, in one line."""
    try:
        yield
    except OSError as error:
        raise TrainingFailedError(
            f"{str(path)!r} cannot be written ({error}): free some space, then resume with --resume"
        ) from error
