"""How much of a run is left to compute."""

from __future__ import annotations

from ..ledger.progress import blocks_done
from .prepare import Prepared


def share_left(prepared: Prepared) -> float:
    """Return the share of an output's blocks that are not done, from 0 to 1."""
    done = blocks_done(prepared.request.output) if prepared.output_action == "resumed" else 0
    return 1 - done / max(1, len(prepared.selection))
