"""Who may write a training's files: the start whose token stands in its folder, and no other.

A start takes the folder over before its first step. Whoever had it (the same command started twice,
ranks of a driver that was killed) finds another token before it writes again, and ends. So nobody
must be found alive or dead: what was killed is gone on with at once, from any machine.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from pipeline.base.errors import TrainingFailedError
from unet.training.loop import RankLike
from unet.training.messages import StepsDone, Validated

OWNER = "owner"


def take_over(directory: Path) -> str:
    """Make a training's folder this start's own; return its token. Raises TrainingFailedError."""
    token = uuid4().hex
    aside = directory / f".{OWNER}.{token}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        aside.write_text(token)
        os.replace(aside, directory / OWNER)
    except OSError as error:
        raise TrainingFailedError(
            f"{str(directory)!r} cannot be written ({error}): make room, then start again"
        ) from error
    return token


def check_owner(directory: Path, token: str) -> None:
    """Raise TrainingFailedError where another start has taken the folder over."""
    with suppress(OSError):  # a file system that stutters; the next look will tell
        if (directory / OWNER).read_text() != token:
            raise TrainingFailedError(
                f"another training has taken over {str(directory)!r}: this one ends"
            )


@dataclass(frozen=True, slots=True)
class OwningRank:
    """A rank that looks whose the folder is whenever it tells something.

    ``unet.training.loop`` tells each step after which it saves, just before it does.
    """

    inner: RankLike
    directory: Path
    token: str

    @property
    def rank(self) -> int:
        """As the inner rank's."""
        return self.inner.rank

    @property
    def world_size(self) -> int:
        """As the inner rank's."""
        return self.inner.world_size

    @property
    def device(self) -> str:
        """As the inner rank's."""
        return self.inner.device

    def should_stop(self) -> bool:
        """Whether somebody asked this rank to leave."""
        return self.inner.should_stop()

    def report(self, payload: StepsDone | Validated) -> None:
        """Report it, if this start still owns the folder. Raises TrainingFailedError."""
        check_owner(self.directory, self.token)
        self.inner.report(payload)

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.inner.barrier()
