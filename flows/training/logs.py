"""What a training leaves behind to look at later: a CSV file, and files for TensorBoard."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import Any, Protocol

from pipeline.base.errors import TrainingFailedError
from pipeline.report.pictures import read_picture

from .event_file import EventFile, tensorboard_is_installed

COLUMNS = (
    "step", "loss", "learning_rate", "patches_per_s", "wait_share", "validation_loss",
    "pixel_error", "mean_iou",
)  # fmt: skip


class Listener(Protocol):
    """Hears what the ranks tell, in the driver."""

    def hear(self, message: dict[str, Any]) -> None:
        """Take a message: a step, a validation, a turn, or a loss of ranks."""


def file_logs(directory: Path, *, tell: Callable[[str], None]) -> list[Listener]:
    """Return what writes beside the checkpoints; nothing is written before the first message.

    tell: is given a line where a log that is there cannot be gone on with.
    """
    logs: list[Listener] = [CsvLog(directory / "log.csv", tell=tell)]
    if tensorboard_is_installed():
        logs.append(TensorBoardLog(directory / "tensorboard"))
    return logs


class CsvLog:
    """A row for each step, and one for each validation; no step comes twice.

    A training that went on from a checkpoint does some steps again: their first rows are dropped.
    A file that is no log of ours (any more) is renamed, and a new one begun.
    """

    def __init__(self, path: Path, *, tell: Callable[[str], None] = lambda line: None) -> None:
        self._path, self._tell = path, tell
        self._last_step: int | None = None
        """Of what is in the file; None: not looked yet."""

    def hear(self, message: dict[str, Any]) -> None:
        """Append the rows of a message of steps, or of a validation."""
        if message["kind"] not in ("step", "validation"):
            return
        rows = _rows(message)
        with _written(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._last_step is None:
                self._last_step = max(map(_step, self._rows_before()), default=0)
            first = rows[0]["step"]
            if message["kind"] == "step" and first <= self._last_step:
                self._replace([row for row in self._rows_before() if _step(row) < first])
            self._append(rows)
        self._last_step = message["step"]

    def _rows_before(self) -> list[dict[str, Any]]:
        """Return the rows of an earlier start; what cannot be read is put aside."""
        try:
            rows = self._read()
        except ValueError as error:
            aside = _unused(self._path.with_name(f"{self._path.name}.damaged"))
            os.replace(self._path, aside)
            self._tell(f"{self._path.name} is no log of ours ({error}): it is {aside.name} now")
            return []
        if self._path.exists():
            self._replace(rows)  # without the half of a row that a full disk may have left
        return rows

    def _read(self) -> list[dict[str, Any]]:
        """Return the rows. Raises ValueError for a file that is no log."""
        if not self._path.exists():
            return []
        text = self._path.read_bytes().decode()
        reader = csv.DictReader(io.StringIO(text, newline=""))
        try:
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise ValueError("its columns are others")
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

    def hear(self, message: dict[str, Any]) -> None:
        """Write the numbers of a message, and its picture."""
        if message["kind"] not in ("step", "validation"):
            return
        group = "training" if message["kind"] == "step" else "validation"
        numbers = {
            f"{group}/{name}": value for name, value in message.items() if isinstance(value, float)
        }
        with _written(self._directory):
            pictures = {}
            if message.get("picture"):
                pictures["validation/slice"] = read_picture(Path(message["picture"]))
            if self._file is None:
                self._file = EventFile(self._directory, first_step=message["step"])
            self._file.add(message["step"], numbers=numbers, pictures=pictures)


def _rows(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row per step; what was measured over several steps is in the last one's."""
    if message["kind"] == "validation":
        row = {name: message.get(name) for name in COLUMNS}
        return [row | {"loss": None, "validation_loss": message["loss"]}]
    first = message["step"] - len(message["losses"]) + 1
    rows: list[dict[str, Any]] = [
        {"step": step, "loss": loss} for step, loss in enumerate(message["losses"], start=first)
    ]
    rows[-1] |= {name: message[name] for name in COLUMNS[2:5]}
    return rows


def _unused(path: Path) -> Path:
    """Return a path, with a number behind it where it is in use."""
    numbered = (path.with_name(f"{path.name}-{number}") for number in count(2))
    return next(one for one in chain([path], numbered) if not one.exists())


def _step(row: dict[str, Any]) -> int:
    return int(row["step"])


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Turn a disk that is full, or closed to us, into one line."""
    try:
        yield
    except OSError as error:
        raise TrainingFailedError(
            f"{str(path)!r} cannot be written ({error}): make room, then go on with --resume"
        ) from error
