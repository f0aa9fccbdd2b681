"""The name in a folder that is most like one that does not exist there."""

from __future__ import annotations

import difflib
import itertools
import os
from pathlib import Path
from typing import Final

_MOST_NAMES: Final = 10_000
_LIKE: Final = 0.75


def similar_text(missing: Path) -> str:
    """Return ``(did you mean …?)`` for a path that does not exist, or nothing.

    The first part of the path that is missing is compared with the names beside it. Reads one
    folder, at most its first 10,000 names.
    """
    parts = (missing, *missing.parents)
    lost = next((one for one in parts if not one.exists() and one.parent.is_dir()), None)
    if lost is None:
        return ""
    try:
        with os.scandir(lost.parent) as entries:
            names = [entry.name for entry in itertools.islice(entries, _MOST_NAMES)]
    except OSError:
        return ""
    alike = difflib.get_close_matches(lost.name, names, n=1, cutoff=_LIKE)
    return f" (did you mean {lost.parent / alike[0]}?)" if alike else ""
