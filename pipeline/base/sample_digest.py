"""The digest of a sample of a volume: a short digest of each box, or UNREAD, in one text."""

from __future__ import annotations

from typing import Final

UNREAD: Final = "unread"
"""Replaces the digest of a box that could not be read."""


def same_where_unread(digest: str, stored: str | None) -> str:
    """Return a digest whose boxes are those of ``stored`` where one of the two was not read.

    So a run resumes after a damaged chunk was repaired.

    >>> same_where_unread("1a 2b 3c", "1a unread 4d")
    '1a unread 3c'
    """
    new, old = digest.split(), (stored or "").split()
    if len(new) != len(old):
        return digest
    return " ".join(b if UNREAD in (a, b) else a for a, b in zip(new, old, strict=True))


def is_whole(digest: str) -> bool:
    """Return whether every box of a sample was read."""
    return UNREAD not in digest.split()
