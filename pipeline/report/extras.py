"""What a report shows of things that were done after the run, or that only its caller knows."""

from __future__ import annotations

from dataclasses import dataclass

from .report import Command, Picture, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectsShown:
    """The objects that were found in a segmentation."""

    count: int
    table: Table
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportExtras:
    """Additions to the report of a run."""

    objects: ObjectsShown | None = None
    scores: Table | None = None
    """Against a truth."""
    commands: tuple[Command, ...] = ()
    """Such as what repeats the run; those that open the result are there anyway."""


NO_EXTRAS = ReportExtras()
