"""What a run group states, checked where it is read: an output may have been edited or damaged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..base.errors import OutputError
from ..base.location import Location
from ..base.text import brief
from ..output.guard import RUN_GROUP
from .ownership import SHARDS, SKIPPED


def checked_record(output: Location, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the attributes of an output's run group. Raises OutputError for a wrong type.

    They need not be complete: older versions wrote fewer, and a run adds some of them at its end.
    """
    for name, (is_right, expected) in _KINDS.items():
        value = attributes.get(name)
        is_absent = value is None and (name != "job" or name not in attributes)
        if not is_absent and not is_right(value):
            raise _damaged(output, name, value, expected)
    for name, (is_right, expected) in _JOB_KINDS.items():
        value = (attributes.get("job") or {}).get(name)
        if value is not None and not is_right(value):
            raise _damaged(output, f"job.{name}", value, expected)
    return attributes


def _damaged(output: Location, name: str, value: Any, expected: str) -> OutputError:
    return OutputError(
        f"the record of the run in {output / RUN_GROUP} is damaged: {name} is {brief(value)}, "
        f"expected {expected}; choose another output, or replace this one with --overwrite"
    )


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_count, value))


def _are_sizes(value: Any) -> bool:
    return _are_counts(value) and len(value) == 3 and min(value) > 0


def _are_figures(value: Any) -> bool:
    """Return whether a value is what ``Figures.to_json`` wrote."""
    if not isinstance(value, Mapping):
        return False
    stages, seconds = value.get("stage_seconds", {}), value.get("seconds", 0.0)
    counts = ("blocks", "voxels", "bytes_read", "bad_voxels")
    return (
        value.keys() <= {*counts, "class_voxels", "stage_seconds", "seconds"}
        and all(_is_count(value.get(name, 0)) for name in counts)
        and _are_counts(value.get("class_voxels", []))
        and isinstance(stages, Mapping)
        and all(map(_is_duration, (*stages.values(), seconds)))
    )


def _is_duration(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


_Kind = tuple[Callable[[Any], Any], str]
_KINDS: Final[Mapping[str, _Kind]] = {
    "job": (_is_object, "an object"),
    "provenance": (_is_object, "an object"),
    "figures": (lambda value: not value or _are_figures(value), "the figures of a run"),
    "levels": (_is_list, "a list of paths"),
    "objects": (_is_count, "a count"),
    "copied_shards": (lambda value: _are_counts(value) and len(value) == 2, "two counts"),
    SHARDS: (lambda value: _are_counts(value) and value, "a count of blocks for each share"),
    SKIPPED: (_are_counts, "a count of blocks for each share"),
}
_JOB_KINDS: Final[Mapping[str, _Kind]] = {
    "block": (_are_sizes, "three sizes"),
    "tile": (_are_sizes, "three sizes"),
    **dict.fromkeys(("input_sample", "traversal", "kind"), (_is_text, "a text")),
}
