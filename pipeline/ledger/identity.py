"""The identity of a run: everything that changes a voxel of the output, and its digest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..base.errors import OutputError
from ..base.location import Location
from ..output.guard import other_output_advice


@dataclass(frozen=True, slots=True)
class Job:
    """What a run computes: everything that changes a voxel of the output, as JSON values."""

    parts: Mapping[str, Any]
    in_words: Callable[[str, Any], str | None] = field(default=lambda *_: None, compare=False)
    """Returns how a message shows the value of a part, by the part's name; None: unchanged."""

    @property
    def digest(self) -> str:
        """SHA-256 of the parts."""
        return _digest(self.parts)

    def differences(self, other: Mapping[str, Any]) -> str:
        """Return how ``other`` (the stored job) differs from this one, as text.

        A value that is still ``auto`` here is decided on a worker later and counts as equal.
        """
        names = sorted(name for name in {*self.parts, *other} if self.parts.get(name) != "auto")
        differing = [n for n in names if _plain(self.parts.get(n)) != _plain(other.get(n))]
        if place := [name for name in differing if name in ("input_uri", "input_path")]:
            differing = place  # its digests say no more, and what depends on it can mislead
        return "; ".join(
            f"{name} was {self._shown(name, other)}, now {self._shown(name, self.parts)}"
            for name in differing
        )

    def _shown(self, name: str, parts: Mapping[str, Any]) -> str:
        value = parts.get(name)
        return self.in_words(name, value) or _short(value)


def check_job(
    output: Location, job: Job, stored: Mapping[str, Any], *, finishing: bool = False
) -> None:
    """Raise OutputError if another job is known to have made the output."""
    if differences := job.differences(stored):
        raise _another_job(output, differences, finishing=finishing)


def check_digest(output: Location, job: Job, attributes: Mapping[str, Any]) -> None:
    """Raise OutputError unless a run group with these attributes belongs to this job.

    A part that is None equals one that is missing because an older version did not have it.
    """
    stored: Any = attributes["job"]
    if attributes.get("job_digest") == job.digest:
        return
    is_intact = attributes.get("job_digest") == _digest(stored)
    if not (is_intact and _given(stored) == _given(job.parts)):
        raise _another_job(output, job.differences(stored) or "its record was changed")


def _another_job(output: Location, differences: str, *, finishing: bool = False) -> OutputError:
    advice = other_output_advice(output, finishing=finishing)
    return OutputError(f"{output} belongs to another job ({differences}): {advice}")


def _digest(parts: Mapping[str, Any]) -> str:
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _given(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts that say something, as JSON values."""
    return {name: _plain(value) for name, value in parts.items() if value is not None}


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    if re.fullmatch("[0-9a-f]{64}", text):
        return f"{text[:12]}…"
    return text if len(text) <= 80 else text[:77] + "…"
