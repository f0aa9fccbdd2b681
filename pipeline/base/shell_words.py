"""Words of commands that are printed for a person, who pastes them into a shell. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable


def shell_word(text: str) -> str:
    r"""Return one shell word that stands for a text, with nothing that a terminal would obey.

    Texts with control characters, line breaks or marks of writing direction are written in the
    ``$'…'`` of bash, zsh and ksh, byte by byte in UTF-8.

    >>> print(shell_word("my in.zarr"), shell_word("$(reboot)"), shell_word("a\nb"))
    'my in.zarr' '$(reboot)' $'a\nb'
    """
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_escaped, text)) + "'"


def shell_line(words: Iterable[str]) -> str:
    """Return a command as one line. A first argument that starts with a dash is the caller's care.

    >>> shell_line(["overtile", "status", "my out.zarr"])
    "overtile status 'my out.zarr'"
    """
    return " ".join(map(shell_word, words))


def positional(text: str) -> str:
    """Return a path so that no command takes it for an option: with ``./`` before a dash.

    >>> positional("-rf"), positional("s3://bucket/-rf")
    ('./-rf', 's3://bucket/-rf')
    """
    return f"./{text}" if text.startswith("-") else text


def _escaped(letter: str) -> str:
    if letter in "\\'":
        return f"\\{letter}"
    if letter.isprintable():
        return letter
    if letter in _SHORT:
        return _SHORT[letter]
    return "".join(f"\\x{byte:02x}" for byte in letter.encode(errors="surrogateescape"))


_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
