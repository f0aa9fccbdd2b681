"""The runs of this process whose metrics are published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pipeline.ledger.progress import Progress


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a run stated a moment ago."""

    name: str
    """The label ``work``."""
    output: str
    work: Work
    progress: Progress
    objects: int | None

    @classmethod
    def take(cls, work: Work, *, number: int, output: str) -> Sample:
        """Ask the run. number: of the run among those of this process; the first has no number."""
        name = work.name if number == 1 else f"{work.name} {number}"
        objects = None if work.objects is None else work.objects()
        return cls(
            name=name, output=output, work=work, progress=work.run.progress(), objects=objects
        )
