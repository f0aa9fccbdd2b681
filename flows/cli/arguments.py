"""What the shell's commands have in common: how options are read and checked."""

from __future__ import annotations

import argparse
from typing import Any

from pipeline.base.errors import PlanError


def number_or_name(text: str) -> int | str:
    """Return a number where the text is one, else the name."""
    return int(text) if text.lstrip("-").isdigit() else text


def slices(text: str) -> tuple[int, int]:
    """Return the two ends of ``A:B``."""
    first, _, last = text.partition(":")
    try:
        return int(first), int(last)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: say slices as A:B, like 20:24") from None


def checked(model: Any, **values: Any) -> Any:
    """Return a pydantic model of these values, or raise PlanError with its first complaint."""
    from pydantic import ValidationError

    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise PlanError(
            f"--{option} {first['input']!r}: {first['msg'].lower().replace('input', 'it')}"
        ) from error
