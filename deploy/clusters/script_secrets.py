"""Refuses shell lines of a profile that hold a secret: every job's script would hold it too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pipeline.base.errors import ClusterError
from pipeline.base.redaction import has_secret

_ASSIGNED: Final = re.compile(
    r"\b([A-Za-z_]*(?:SECRET|PASSW|TOKEN(?!IZERS)|API_KEY|AUTH_STRING|CREDENTIAL)[A-Za-z_]*)="
    r"(?!\"?\$|[\"']?/|[\"']?(?:\s|;|$))",
    re.IGNORECASE,
)
"""A variable with the name of a secret, and a value that is neither from a variable, a command or a
file, nor empty. A path is not a secret."""
_FROM_VARIABLE: Final = re.compile(r"(?<=://)[^/@\s]*\$\{?\w+\}?@")


def check_lines(key: str, lines: Sequence[str]) -> None:
    """Raise ClusterError for a line with a password in a URI, or one that sets a secret."""
    for number, line in enumerate(lines, 1):
        if name := _secret_in(line):
            raise ClusterError(
                f"{key}, line {number}, holds {name}, which every job's script would hold too: "
                "write it into a file that only you can read, and pass `source FILE`"
            )


def _secret_in(line: str) -> str | None:
    if (match := _ASSIGNED.search(line)) is not None:
        return f"the value of {match[1]}"
    literal = _FROM_VARIABLE.sub("", line)
    words = literal.replace('"', " ").replace("'", " ").split()
    return "a password in a URI" if any(map(has_secret, words)) else None
