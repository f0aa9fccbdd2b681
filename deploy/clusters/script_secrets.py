"""Refuses shell lines of a profile that hold a secret: every job's script would hold it too."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final

from pipeline.base.errors import ClusterError
from pipeline.base.redaction import has_secret

_ASSIGNED: Final = re.compile(
    r"(?<!\w)(\w*(?:SECRET|PASSW|PASSPHRASE|TOKEN(?!IZERS)|API_KEY|AUTH_STRING|CREDENTIAL)\w*)="
    r"(\$?'[^']*'|\"[^\"]*\"|`[^`]*`|[^\s;]*)",
    re.IGNORECASE,
)
"""A variable with the name of a secret, and its value as the shell reads it."""
_OF_A_PATH: Final = re.compile(r"(file|path|dir|folder)s?$", re.IGNORECASE)
_COMPUTED: Final = re.compile(r"\"?(\$(?!')|`)")
"""A value from a variable or a command."""
_REQUEST: Final = re.compile(
    r"\bauthorization: *(?:\w+ +)?+(?P<header>[^\s$'\"]+)|"
    r"\b(?:curl|wget)\b.*\s(?:-u|--user)[ =]*(?P<user>[^\s$:]*:[^\s$]+)",
    re.IGNORECASE,
)
"""The credentials of a request, where they are not from a variable."""
_FROM_VARIABLE: Final = re.compile(r"(?<=://)[^/@\s]*\$\{?\w+\}?@")


def check_lines(key: str, lines: Sequence[str]) -> None:
    """Raise ClusterError for a line with a password in a URI, or one that sets or sends a secret.

    A value from a variable, a command or an existing file's path is not one.
    """
    for number, line in enumerate(lines, 1):
        if name := _secret_in(line):
            raise ClusterError(
                f"{key}, line {number}, holds {name}, which every job's script would hold too: "
                "write it into a file that only you can read, and pass `source FILE`"
            )


def _secret_in(line: str) -> str | None:
    for name, value in _ASSIGNED.findall(line):
        if _is_literal(name, value):
            return f"the value of {name}"
    if _REQUEST.search(line):
        return "the credentials of a request"
    literal = _FROM_VARIABLE.sub("", line)
    words = literal.replace('"', " ").replace("'", " ").split()
    return "a password in a URI" if any(map(has_secret, words)) else None


def _is_literal(name: str, value: str) -> bool:
    """Return whether a variable of a secret's name gets a value that is written in the line."""
    if _COMPUTED.match(value):
        return False
    text = value.removeprefix("$").strip("'\"")
    is_path = text.startswith("/") and (bool(_OF_A_PATH.search(name)) or os.path.exists(text))
    return bool(text) and not is_path
