"""What is left of a run when it ends: a value, from which reports and messages are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.geometry import Shape
from ..ledger.figures import Figures
from ..ledger.progress import Progress
from ..ledger.throughput import Throughput
from .engines.block import BlockJob
from .prepare import Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """Everything that reports, pictures and messages show of a run that has ended."""

    prepared: Prepared
    job: BlockJob
    progress: Progress
    """Its figures are those of this run alone."""
    done_before: int
    """Blocks that earlier runs of the same job had done."""
    figures: Figures
    """Of this run and of earlier runs of the same job."""
    failures: Mapping[Shape, str]
    """Blocks that were set aside in this run, with the reason."""
    states: NDArray[np.uint8]
    """Of all blocks, on the plan's grid; see ``BlockState``."""
    throughput: Throughput
    """Of this run, or of the last one that computed a block."""
    provenance: Mapping[str, Any]
    is_merged: bool
    """Whether shares made the output, and this run is of the whole."""
    error: str | None = None
    """Why the run did not complete."""
    since: str | None = None
    """What the output shares with an earlier one, in one line."""
