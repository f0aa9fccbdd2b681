"""What the bundled weights are for: ``--weights list`` and ``overtile weights list``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

from ..text.terminal import show

LIST = "list"
"""Instead of a file: all bundled weights. A file of this name is ``./list``."""


def asks_for_list(arguments: Sequence[str]) -> bool:
    """Return whether a command's arguments have ``--weights list``, which shows the bundled ones.

    >>> asks_for_list(["segment", "--weights", "list"]), asks_for_list(["segment", "list"])
    (True, False)
    """
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return ("--weights", LIST) in pairwise(options) or f"--weights={LIST}" in options


def show_bundled(*, as_json: bool = False) -> None:
    """Print what the bundled weights are for."""
    from ..text.bundled import bundled_json, bundled_text

    show(json.dumps(bundled_json(), indent=2) if as_json else bundled_text())
