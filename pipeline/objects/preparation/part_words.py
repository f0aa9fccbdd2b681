"""The stored integers of a job as a user passed them: scores from 0 to 1, lengths."""

from __future__ import annotations

from typing import Any, Final

from ...volume.size_text import size_in_words
from ..definition.lengths import STEPS

_SCORES: Final = ("threshold", "seed_threshold", "merge_threshold")
_ABSENT_IF_0: Final = ("depth", "seed_distance", "merge_threshold")


def part_in_words(name: str, value: Any, *, highest: int) -> str | None:
    """Return how a message shows a part of a job; None: unchanged.

    highest: the integer of score 1.

    >>> part_in_words("threshold", 128, highest=255), part_in_words("depth", 26, highest=255)
    ('0.5', '0.1')
    >>> part_in_words("seed_distance", 800, highest=255), part_in_words("axes", "zyx", highest=255)
    ('0.8', None)
    >>> part_in_words("depth", 0, highest=255)
    'not set'
    """
    if (size := size_in_words(name, value)) is not None:
        return size
    if value is None or (value == 0 and name in _ABSENT_IF_0):
        return "not set"
    if not isinstance(value, int):
        return None
    if name == "seed_distance":
        return f"{value / STEPS:g}"
    if name in _SCORES:  # the lowest integer that is not below the score
        return _shortest(value - 1, value, highest)
    if name == "depth":  # rounded
        return _shortest(value - 0.500001, value + 0.5, highest)
    return None


def _shortest(above: float, most: float, highest: int) -> str:
    """Return the decimal with the fewest digits, at least one, that is stored as an integer.

    above, most: times ``highest``, it lies above the one, and is at most the other.
    """
    for digits in range(1, 7):
        score = int(most / highest * 10**digits + 1e-9) / 10**digits
        if score * highest > above + 1e-9:
            return f"{score:g}"
    return f"{most / highest:.6g}"
