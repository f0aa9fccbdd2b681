"""Durations and sizes in profiles, from text. Pure."""

from __future__ import annotations

import re

from pipeline.base.errors import ClusterError
from pipeline.base.text import brief

_CLOCK = re.compile(r"(?:(\d{1,6})-)?(\d{1,6}):(\d\d):(\d\d)")
_WITH_UNIT = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)\s*([a-zA-Z]+)")
_SECONDS = {
    **dict.fromkeys(("s", "sec", "seconds"), 1), **dict.fromkeys(("min", "minutes", "m"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600), **dict.fromkeys(("d", "day", "days"), 86_400),
}  # fmt: skip
_BYTES = {
    **{f"{prefix}iB": 2 ** (10 * n) for n, prefix in enumerate("KMGT", 1)},
    **{f"{prefix}B": 10 ** (3 * n) for n, prefix in enumerate("kMGT", 1)},
}


def duration_s(text: str) -> int:
    """Return the seconds of a duration. Raises ClusterError.

    >>> duration_s("01:30:00"), duration_s("1-00:00:00"), duration_s("90 min")
    (5400, 86400, 5400)
    """
    if match := _CLOCK.fullmatch(text.strip()):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    match = _WITH_UNIT.fullmatch(text.strip())
    if match and match[2].lower() in _SECONDS:
        return round(float(match[1]) * _SECONDS[match[2].lower()])
    raise ClusterError(f"duration {brief(text)}: expected 02:00:00, 1-12:00:00, 90 min or 2 h")


def size_bytes(text: str) -> int:
    """Return the bytes of a size. Raises ClusterError.

    >>> size_bytes("32GiB"), size_bytes("1.5 GB")
    (34359738368, 1500000000)
    """
    match = _WITH_UNIT.fullmatch(text.strip())
    if match and match[2] in _BYTES:
        return round(float(match[1]) * _BYTES[match[2]])
    raise ClusterError(f"memory {brief(text)}: expected 32GiB or 500MB")
