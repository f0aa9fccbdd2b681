"""How a run that did not complete reports what happened, and how to resume it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base.geometry import Shape

MOST_NAMED = 3


def resume_advice(*, overwrite: bool) -> str:
    """Return how to complete an output after a run that failed or was stopped."""
    without = " without --overwrite" if overwrite else ""
    return f"finished blocks are kept; start the same run again{without} to resume"


def failed_text(problem: str, advice: str) -> str:
    """Return why a run failed, and how to resume it; a full disk needs space first.

    >>> failed_text("OSError: No space left on device", "start the same run again to resume")
    'OSError: No space left on device; free some space: start the same run again to resume'
    """
    is_full = any(words in problem.lower() for words in ("no space left", "quota exceeded"))
    return f"{problem}; free some space: {advice}" if is_full else f"{problem}; {advice}"


def drained_text(done: int, blocks: int) -> str:
    """Return how far a drained run got."""
    return f"drained: {done} of {blocks} blocks are done"


def given_up_text(failures: int, reason: str) -> str:
    """Return why a run ended before it tried all blocks."""
    return f"the first {failures} blocks all failed, the last one with: {reason}"


def set_aside_text(failures: Mapping[Shape, str], blocks: int) -> str:
    """Return which blocks failed and why; the first few are named."""
    named = named_failures(failures)
    return f"{len(failures)} of {blocks} blocks failed and were set aside ({named})"


def named_failures(failures: Mapping[Any, str], *, of: str = "block") -> str:
    """Return the first few that failed with their reasons, and how many more there are.

    failures: by the index of a block, or of what else ``of`` names; by the number of a layer; or
    by anything for the only task of a stage.

    >>> named_failures({(0, 1, 2): "OSError: Input/output error", 3: "KilledWorker"})
    'block 0,1,2: OSError: Input/output error; layer 3: KilledWorker'
    """
    named = [f"{_place(at, of)}{why}" for at, why in failures.items()]
    more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    return "; ".join(named[:MOST_NAMED]) + more


def _place(at: object, of: str) -> str:
    if isinstance(at, tuple):
        return f"{of} {','.join(map(str, at))}: "
    return f"layer {at}: " if isinstance(at, int) and not isinstance(at, bool) else ""
