"""A time in words, with how long ago it was."""

from __future__ import annotations

from datetime import UTC, datetime

from pipeline.base.text import duration_text


def ago_text(written: datetime | None, now: datetime) -> str:
    """Return when something was written.

    >>> at = datetime(2026, 11, 23, 0, 9, 44, tzinfo=UTC)
    >>> ago_text(at, at.replace(minute=10, second=0))
    '2026-11-23 00:09:44 UTC, 16 s ago'
    """
    if written is None:
        return "unknown (the store has no times)"
    ago = max(0.0, (now - written).total_seconds())
    return f"{written.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, {duration_text(ago)} ago"
