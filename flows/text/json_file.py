"""Figures as a JSON file: checked before anything is computed, written all or nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

from pipeline.base.errors import OutputError


def check_json_place(file: str | None) -> None:
    """Raise OutputError where a file cannot be written, before anything is computed."""
    if file is None:
        return
    if not file:
        raise OutputError("--json names no file: say one, like scores.json")
    path = Path(file)
    try:
        can_be = not path.is_dir() and path.parent.is_dir() and os.access(path.parent, os.W_OK)
    except OSError:  # a name that is too long
        can_be = False
    if not can_be:
        raise OutputError(f"{file[:200]} cannot be written: name a file in a folder that is yours")


def write_json(file: str | None, values: dict[str, Any]) -> None:
    """Write figures to a file, all or nothing; nothing where no file is named."""
    if file is None:
        return
    path = Path(file)
    aside = path.with_name(f".{uuid4().hex}")
    try:
        aside.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise OutputError(f"{file} cannot be written: {error.strerror}") from error
