"""TOML from files that users write: whatever is wrong with it is a ValueError of one line."""

from __future__ import annotations

import os
import tomllib
from typing import Any, Final

from .text import size_text

MOST_BYTES: Final = 2**20
"""A settings file is some kilobytes; a device or a volume passed by mistake may have no end."""


def read_text(path: str | os.PathLike[str], *, most_bytes: int = MOST_BYTES) -> str:
    """Return the text of a small file. Raises OSError, or ValueError if it is large or not text."""
    with open(path, "rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"it is larger than {size_text(most_bytes)}: expected a small text file")
    return content.decode()


def toml_table(text: str) -> dict[str, Any]:
    """Return the table that a TOML text states. Raises ValueError, one line, for anything else.

    >>> toml_table("steps = 3")
    {'steps': 3}
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("its brackets are nested too deep") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except ValueError as error:  # Python reads integers of up to 4,300 digits
        raise ValueError(f"a number is too long to read ({error})") from None
