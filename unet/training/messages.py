"""What a training reports while it runs: frozen dataclasses of plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsDone:
    """The steps since the last report."""

    step: int
    """How many steps are done."""
    steps: int
    """How many there will be."""
    loss: float
    """Mean of ``losses``."""
    losses: tuple[float, ...]
    """One per step; the last one is of ``step``."""
    learning_rate: float
    """Of the last step."""
    patches_per_s: float
    wait_share: float
    """Share of the time in which the network waited for samples, on the rank that waited most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """The scores of a validation; see :class:`unet.training.validation.Scores`."""

    step: int
    loss: float
    pixel_error: float
    iou: tuple[float, ...]
    dice: tuple[float, ...]
    mean_iou: float
    picture: str
    """Path of the file."""
    is_best: bool = False
    """Whether it is the best so far, by the metric of the training."""
    names: tuple[str, ...] = ()
    """Of the classes; empty where the network does not learn classes."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something to know about the training; one line."""

    text: str


Message: TypeAlias = StepsDone | Validated | Note
TRAINING_MESSAGES = (StepsDone, Validated, Note)
"""What ranks report."""


class Listener(Protocol):
    """Receives, in the driver, what happens in a training."""

    def hear(self, message: object) -> None:
        """Take a StepsDone, a Validated, a Note, or an event of whatever runs the ranks."""
