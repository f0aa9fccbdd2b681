"""JSON from files that anyone may have written: whatever is wrong with it is a ValueError. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from .text import size_text

MOST_BYTES: Final = 2**26
"""The metadata of a plate of a hundred thousand images is smaller."""
MOST_PARTS: Final = 4_000_000
"""Lists and objects; each takes some hundred bytes of memory."""
DEEPEST: Final = 100
"""Levels of nested lists and objects; metadata needs about ten."""
_TOO_DEEP: Final = "its brackets are nested too deep"


def json_value(text: bytes | str) -> Any:
    """Return the value of a JSON text. Raises ValueError, one line, for anything else.

    That includes a text of more than 64 MiB, or of so many parts that they fill the memory, and
    lists and objects nested in more than 100 levels: code that walks through them would reach
    Python's limit of recursion.

    >>> json_value('{"shape": [3, 8]}')
    {'shape': [3, 8]}
    """
    if len(text) > MOST_BYTES:
        raise ValueError(f"it is larger than {size_text(MOST_BYTES)}")
    if _brackets(text) > MOST_PARTS:
        raise ValueError(f"it has more than {MOST_PARTS:,} lists and objects")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check_depth(value)
    return value


def _brackets(text: bytes | str) -> int:
    if isinstance(text, bytes):
        return text.count(b"[") + text.count(b"{")
    return text.count("[") + text.count("{")


def _check_depth(value: Any) -> None:
    """Raise ValueError for a value that is nested too deep; level by level, without recursion."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def inner_object(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object inside another one; an empty one where it is missing or of another kind.

    >>> inner_object({"job": {"kind": "objects"}}, "job"), inner_object({"job": 3}, "job")
    ({'kind': 'objects'}, {})
    """
    inner = document.get(name)
    return inner if isinstance(inner, Mapping) else {}
