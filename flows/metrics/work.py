"""The runs of this process whose metrics are published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.ledger.progress import Progress
from pipeline.ledger.run_time_left import RunTimeLeft


class MeasuredRun(Protocol):
    """A run that can be asked at any time, from any thread but that of Dask's event loop."""

    def progress(self) -> Progress:
        """Return how far it is, with its figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A run, and what it is called in the metrics."""

    run: MeasuredRun
    name: str
    """segment or objects."""
    voxel_bytes: int = 0
    """Bytes that it writes per voxel, before compression; 0 if unknown."""
    objects: Callable[[], int] | None = None
    """Returns the number of objects found."""
    time_left: RunTimeLeft = field(default_factory=RunTimeLeft)
    """Estimates the time left as the displays of the run do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a run stated a moment ago."""

    name: str
    """The label ``work``."""
    output: str
    work: Work
    progress: Progress
    objects: int | None
    seconds_left: float | None

    @classmethod
    def take(cls, work: Work, *, number: int, output: str) -> Sample:
        """Ask the run. number: of the run among those of this process; the first has no number."""
        name = work.name if number == 1 else f"{work.name} {number}"
        objects = None if work.objects is None else work.objects()
        progress = work.run.progress()
        return cls(
            name=name, output=output, work=work, progress=progress, objects=objects,
            seconds_left=work.time_left(progress),
        )  # fmt: skip
