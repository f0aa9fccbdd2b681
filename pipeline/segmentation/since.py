"""A segmentation since an earlier output: blocks of the same size, so that both can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..base.errors import PlanError
from ..base.location import Location
from ..base.text import counted, shape_text
from ..ledger.earlier_output import EarlierOutput, known_digests
from ..ledger.ledger import read_states, run_group, stored_job
from ..planning.blocks import BlockPlan
from .request import SegmentRequest


def sizes_since(request: SegmentRequest) -> Mapping[str, Any]:
    """Return the block of the earlier output, as the job of an output that is resumed states it.

    How tiles go through the network stays open: that changes no block.
    """
    if request.earlier is None:
        return {}
    block = stored_job(request.earlier).get("block")
    return {"block": block, "traversal": "auto"} if block else {}


def check_same_grid(request: SegmentRequest, plan: BlockPlan) -> None:
    """Raise PlanError unless the earlier output has the same blocks."""
    if request.earlier is None:
        return
    states = read_states(request.earlier, run_group(request.earlier))
    block = tuple(stored_job(request.earlier).get("block") or ())
    if states.shape != plan.grid or block != plan.core:
        raise PlanError(
            f"--since {request.earlier} has {shape_text(states.shape)} blocks of "
            f"{shape_text(block)} voxels, this run {shape_text(plan.grid)} of "
            f"{shape_text(plan.core)}: expected the output of the same volume, and no other --block"
        )


def since_text(earlier: EarlierOutput, output: Location, *, copied: tuple[int, int] | None) -> str:
    """Return how many blocks an output shares with the earlier one, in one line.

    copied: shards of coarser levels that were copied, and all.
    """
    same = earlier.same_blocks(known_digests(output))
    if same is None:
        text = "its blocks have no digests to compare"
    else:
        differ = int(np.count_nonzero(~same))
        text = f"{differ:,} of {counted(same.size, 'block')} differ"
    number, of = copied or (0, 0)
    levels = f"; {number:,} of {counted(of, 'shard')} of coarser levels copied" if of else ""
    return f"all blocks are computed; since {earlier.output}, {text}{levels}"
