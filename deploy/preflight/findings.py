"""Checks of the processes of a cluster, and their findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pipeline.base.errors import ClusterError

Level: TypeAlias = Literal["error", "warning", "fine"]

NAMED = 3
"""Number of workers that a finding names; it counts the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line for the user: the problem, and what to do about it."""

    level: Level
    check: str
    text: str


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception instead of an answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Silence:
    """No answer in time."""


Answers: TypeAlias = Mapping[str, Any]
"""By process; a :class:`Failure` if the question raised. Processes that timed out are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A question to every worker, and how to judge the answers."""

    name: str
    ask: Callable[[], Any]
    """Travels by pickle and runs in the worker's process, in a thread; returns plain values."""
    judge: Callable[[Answers], Iterable[Finding]]
    """Runs here; its answers include failures."""
    of_scheduler: bool = False
    """Whether the scheduler is checked too."""


def refuse_errors(findings: Sequence[Finding]) -> None:
    """Raise ClusterError with the first error, if any."""
    errors = [finding.text for finding in findings if finding.level == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more: overtile preflight)" if errors[1:] else ""
        raise ClusterError(errors[0] + more)


def grouped(texts: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Return each distinct text once, with the processes that it applies to."""
    groups: dict[str, list[str]] = {}
    for name, text in texts.items():
        groups.setdefault(text, []).append(name)
    return list(groups.items())


def named(processes: Sequence[str]) -> str:
    """Return processes as the subject of a sentence in the singular.

    >>> named(["worker a"]), named(["worker a", "worker b"])
    ('worker a', 'each of worker a and worker b')
    >>> named([f"worker {n}" for n in range(100)])
    'each of worker 0, worker 1, worker 2 and 97 more'
    """
    if len(processes) == 1:
        return processes[0]
    listed = (
        [*processes[:NAMED], f"{len(processes) - NAMED} more"]
        if len(processes) > NAMED
        else list(processes)
    )
    return f"each of {', '.join(listed[:-1])} and {listed[-1]}"


def failures(answers: Answers) -> dict[str, str]:
    """Return the texts of the failures among the answers."""
    return {name: value.text for name, value in answers.items() if isinstance(value, Failure)}
