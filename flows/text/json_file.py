"""Figures as a JSON file: the path is checked first, the file is written atomically."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

from pipeline.base.errors import OutputError
from pipeline.base.location import check_text
from pipeline.base.store_errors import not_written

MOST_BYTES = 2**26
"""More than the figures of any evaluation."""


def check_json_place(file: str | None) -> None:
    """Raise OutputError if a file cannot be written."""
    if file is None:
        return
    if not file:
        raise OutputError("--json '': expected a file, such as scores.json")
    check_text(file, kind=OutputError)
    path = Path(file)
    try:
        is_writable = not path.is_dir() and path.parent.is_dir() and os.access(path.parent, os.W_OK)
    except OSError:  # a name that is too long
        is_writable = False
    if not is_writable:
        raise OutputError(f"{file[:200]} cannot be written: choose a file in a writable folder")
    if path.exists() and not _holds_figures(path):
        raise OutputError(
            f"{file} exists and holds no figures of overtile evaluate: choose another file"
        )


def _holds_figures(path: Path) -> bool:
    """Return whether a file is one of an evaluation, or empty: another one may replace it.

    Pipes and devices are not read, which may never end.
    """
    try:
        if not path.is_file() or (size := path.stat().st_size) > MOST_BYTES:
            return False
        values = json.loads(path.read_bytes()) if size else {}
    except (OSError, ValueError, RecursionError):
        return False
    stated = {"prediction", "truth", "settings"}
    return not size or (isinstance(values, dict) and stated <= values.keys())


def write_json(file: str | None, values: dict[str, Any]) -> None:
    """Write figures to a file atomically; do nothing if no file is given. Raises OutputError."""
    if file is None:
        return
    path = Path(file)
    aside = path.with_name(f".{uuid4().hex}")
    try:
        aside.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise not_written(file, error, remedy="choose another file") from error
