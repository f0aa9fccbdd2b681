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

    work: Work
    progress: Progress
    objects: int | None

    @classmethod
    def take(cls, work: Work) -> Sample:
        """Ask the run."""
        objects = None if work.objects is None else work.objects()
        return cls(work=work, progress=work.run.progress(), objects=objects)
