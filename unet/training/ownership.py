"""Which start of a training may write its files: the one whose token is in the folder.

A start takes the folder over before its first step. An earlier one (the same command started twice,
ranks of a driver that was killed) reads another token before it writes again, and ends. So no start
has to be known alive or dead: a killed training is resumed at once, from any machine.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from pipeline.base.errors import TrainingFailedError

OWNER = "owner"


def take_over(directory: Path) -> str:
    """Write a new token into a training's folder and return it. Raises TrainingFailedError."""
    token = uuid4().hex
    aside = directory / f".{OWNER}.{token}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        aside.write_text(token)
        os.replace(aside, directory / OWNER)
    except OSError as error:
        raise TrainingFailedError(
            f"{str(directory)!r} cannot be written ({error}): free some space, then start again"
        ) from error
    return token


def check_owner(directory: Path, token: str) -> None:
    """Raise TrainingFailedError if another start has taken the folder over."""
    with suppress(OSError):  # a file system that fails for a moment: the next check will succeed
        if (directory / OWNER).read_text() != token:
            raise TrainingFailedError(
                f"another training has taken over {str(directory)!r}: this one stops"
            )
