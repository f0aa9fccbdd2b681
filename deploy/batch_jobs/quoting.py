"""Shell quoting that keeps variables. Pure."""

from __future__ import annotations

import re
import shlex

_VARIABLE = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*\})")


def word_with_variables(text: str) -> str:
    """Return one shell word in which only ``$NAME`` and ``${NAME}`` are expanded.

    >>> print(word_with_variables("/scratch/$USER/a b"), word_with_variables("$(reboot)"))
    "/scratch/$USER/a b" '$(reboot)'
    """
    if not _VARIABLE.search(text):
        return shlex.quote(text)
    pieces = []
    end = 0
    for match in _VARIABLE.finditer(text):
        pieces += [re.sub(r'([\\"$`])', r"\\\1", text[end : match.start()]), match[0]]
        end = match.end()
    pieces.append(re.sub(r'([\\"$`])', r"\\\1", text[end:]))
    return f'"{"".join(pieces)}"'
