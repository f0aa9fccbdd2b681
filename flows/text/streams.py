"""The standard streams of a command: a terminal or log that is gone ends no run.

ssh loses its connection, the reader of a pipe ends, the disk of a log is full: lines on standard
error are then dropped. Standard output holds results, so that an error there stays an error.
Characters that an encoding lacks are replaced: µ by u, × by x, others by their code.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import Any, Final

ERRORS: Final = "overtile"
"""The name of the error handler for characters that an encoding lacks."""
_PLAIN: Final = {
    "×": "x", "µ": "u", "μ": "u", "²": "2", "³": "3", "…": "...", "–": "-", "—": "-", "·": "*",
    "→": "->", "←": "<-", "≥": ">=", "≤": "<=", "±": "+-", "°": "deg", "‘": "'", "’": "'",
    "“": '"', "”": '"', "\N{NO-BREAK SPACE}": " ", "━": "-", "╸": "-", "╺": "-", "─": "-",
    "│": "|", "█": "#", "•": "*", "✓": "ok",
}  # fmt: skip
_ESCAPED = range(0xDC80, 0xDD00)
"""How Python decodes bytes of a file name that the locale's encoding lacks."""


def settle_streams() -> None:
    """Let standard error lose what cannot be written, and both streams take every character."""
    codecs.register_error(ERRORS, _encoded)
    _open_missing()
    if sys.stderr is None:  # it was closed before the start
        sys.stderr = open(os.devnull, "w", encoding="ascii", errors=ERRORS)  # noqa: SIM115
    elif isinstance(sys.stderr, io.TextIOWrapper):
        with suppress(OSError, ValueError):  # it is not a file
            sys.stderr = io.TextIOWrapper(
                io.BufferedWriter(_Lossy(sys.stderr.fileno(), "w", closefd=False)),
                encoding=sys.stderr.encoding, errors=ERRORS, line_buffering=True,
            )  # fmt: skip
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=ERRORS)


class _Lossy(io.FileIO):
    """A file that drops what cannot be written."""

    def write(self, text: Any, /) -> int:
        """Write a buffer; return how much of it was written, or all of it if it is lost."""
        written = None
        with suppress(OSError):
            written = super().write(text)
        return memoryview(text).nbytes if written is None else written


def _open_missing() -> None:
    """Open the null device in place of standard streams that are closed.

    Otherwise the next file that is opened gets the number of one of them, and takes the messages of
    libraries that write to it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number


def _encoded(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return a replacement for characters that cannot be encoded, and where to resume."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return b"".join(map(_as_bytes, error.object[error.start : error.end])), error.end


def _as_bytes(character: str) -> bytes:
    if ord(character) in _ESCAPED:
        return bytes([ord(character) - 0xDC00])
    return _PLAIN.get(character, character).encode("ascii", "backslashreplace")
