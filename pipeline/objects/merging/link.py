"""Finds the edges between a block and those around it, from their surfaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...base.geometry import Box, Shape
from ..fragments.faces import Face, edges_across
from ..fragments.fragments import Edges
from ..fragments.measures import Records
from .merge import GroupState, WaysOut


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockGraph:
    """What the tree of merges needs of a labelled block, without its voxels."""

    records: Records
    seeded: NDArray[np.bool_]
    lowest: NDArray[np.int32]
    edges: Edges
    faces: Mapping[tuple[int, int], Face]


def linked(
    block: BlockGraph,
    around: Mapping[Shape, BlockGraph],
    *,
    box: Box,
    boxes: Mapping[Shape, Box],
    offsets: NDArray[np.int64],
    shape: Shape,
) -> GroupState:
    """Return the state of a group of one block.

    around, boxes: the neighbours and their boxes, by the direction in which they lie.
    """
    ways = []
    for direction, other in around.items():
        across = next(axis for axis in range(3) if direction[axis])
        side = direction[across]
        found = edges_across(
            block.faces[across, side], other.faces[across, -side],
            blocks=(box, boxes[direction]), direction=direction, offsets=offsets, shape=shape,
        )  # fmt: skip
        ways.append(
            WaysOut(
                node=found.one - 1,
                here=block.records.names[found.one - 1],
                there=other.records.names[found.other - 1],
                height=found.height,
                place=found.place,
            )
        )
    return GroupState(
        records=block.records, seeded=block.seeded, lowest=block.lowest, edges=block.edges,
        ways_out=_together(ways),
    )  # fmt: skip


def _together(ways: list[WaysOut]) -> WaysOut:
    none = np.empty(0, np.int64)
    if not ways:
        return WaysOut(
            node=none, here=none.astype(np.uint64), there=none.astype(np.uint64),
            height=none.astype(np.int32), place=none,
        )  # fmt: skip
    return WaysOut(
        **{
            name: np.concatenate([getattr(one, name) for one in ways])
            for name in ("node", "here", "there", "height", "place")
        }
    )
