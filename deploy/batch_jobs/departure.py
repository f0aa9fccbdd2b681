"""The message that a worker sends when it leaves its cluster before its job's walltime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

TOPIC = "overtile-departures"
"""Of Dask's event; its value is a Departure as a dict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """A worker that left."""

    name: str
    tasks_done: int
    ran_s: float
    """How long the task ran that was cut; 0 if none was."""
    life_s: float
    """How long the worker existed."""

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Departure:
        """Return the departure in an event, to which Dask has added the worker's address."""
        return cls(**{field.name: event[field.name] for field in fields(cls)})
