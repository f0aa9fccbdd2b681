"""The folder of the demo."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.base.errors import OutputError
from pipeline.base.location import Location


def made_folder(directory: str | os.PathLike[str]) -> Path:
    """Return a folder, created if it does not exist. Raises OutputError where it cannot be."""
    folder = Location.parse(directory, kind=OutputError).path
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"--directory {folder} cannot be created ({error.strerror}): choose another folder"
        ) from error
    return folder
