"""What is left of a run that found objects: a value, from which report and messages are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...base.location import Location
from ..table.table import PARQUET, TABLES
from ..tasks.tasks import ObjectsJob
from .prepared import PreparedObjects


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectsSummary:
    """Everything that reports and messages show of a run that has ended."""

    prepared: PreparedObjects
    job: ObjectsJob
    objects: int
    blocks_done_before: int
    """Blocks whose labels an earlier run of the same job had written."""
    taken_over: int | None
    """Blocks with the fragments of an earlier output; None without ``since``."""
    copied_shards: tuple[int, int] | None
    """Shards of coarser levels that were copied from it, and of all."""
    stage_seconds: Mapping[str, float]
    """Wall time of this run, by stage."""
    provenance: Mapping[str, Any]

    @property
    def seconds(self) -> float:
        """Wall time of this run."""
        return sum(self.stage_seconds.values())

    @property
    def table(self) -> Location:
        """The table of the objects."""
        return self.job.output / TABLES / PARQUET
