"""How an attempt ended, as the driver knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Returned:
    """All ranks returned: a result per rank."""

    results: list[Any]


@dataclass(frozen=True, slots=True)
class Lost:
    """A rank was lost, so the others could not continue."""

    reason: str


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Two attempts each held workers that the other one needs; this one lets the other go first."""


@dataclass(frozen=True, slots=True)
class Regrouped:
    """All ranks left because other workers could join, or because some are about to end."""

    ending: frozenset[str]
    """Workers that are about to end; empty where others could join."""


Outcome: TypeAlias = Returned | Lost | Withdrawn | Regrouped
