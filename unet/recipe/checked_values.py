"""Checks of one setting of a config file: whatever comes, a ConfigError of one line or a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from pipeline.base.errors import ConfigError

Record = TypeVar("Record")

MOST_SIZE = 2**20
"""Voxels along an axis of a patch: more is a slip."""


def check_one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse what is none of the choices."""
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}: give one of {', '.join(choices)}")


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Refuse what is no number from low to high, both included."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # type: ignore[operator]
        raise ConfigError(f"{name} is {_shown(value)}: give a number from {low:g} to {high:g}")


def check_whole(name: str, value: object, low: int, high: int) -> None:
    """Refuse what is no whole number from low to high, both included."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or not low <= value <= high:  # type: ignore[operator]
        raise ConfigError(f"{name} is {_shown(value)}: give a whole number from {low} to {high}")


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither true nor false."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}: give true or false")


def sizes(name: str, value: object) -> tuple[int, ...]:
    """Return a list of sizes in voxels."""
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{name} is {value!r}: give a list of sizes, like [256, 256]")
    for size in value:
        check_whole(name, size, 1, MOST_SIZE)
    return tuple(value)


def names(name: str, value: object) -> tuple[str, ...] | None:
    """Return a list of names, or None where none is given."""
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise ConfigError(f"{name} is {_shown(value)}: give a list of names")
    if not all(one.strip() for one in value) or len({*value}) < len(value):
        raise ConfigError(f"{name} is {_shown(value)}: give each a name of its own")
    return tuple(value)


def text(name: str, value: object) -> str | None:
    """Return a text, or None where none is given."""
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{name} is {value!r}: give a text")
    return value


def table(name: str, value: object) -> dict[str, Any]:
    """Return a table of settings."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} is {value!r}: give a table of settings")
    return dict(value)


def replaced(base: Record, given: Mapping[str, Any], *, name: str) -> Record:
    """Return a record with some fields replaced; refuse names that it does not have."""
    known = [entry.name for entry in fields(base)]  # type: ignore[arg-type]
    if unknown := sorted(set(given) - set(known)):
        raise ConfigError(f"unknown in {name}: {unknown}; known are {', '.join(known)}")
    return replace(base, **given)  # type: ignore[type-var]


def _shown(value: object) -> str:
    written = repr(value) if not isinstance(value, int) or abs(value) < 2**64 else "beyond 2**64"
    return written if len(written) <= 80 else f"{written[:77]}..."
