"""The fragments of a block that a forest has grown, and the edges between them that are open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...base.compiled import compiled
from ...base.geometry import Shape
from .joining import Array, Sets, find

RANKS: Final = 32
"""An edge's place is ``RANKS`` times the higher voxel's index in the volume, plus the rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """Edges between fragments: their ends, and their order (height, then place).

    height: of the higher voxel, plus 1; 0 states that the ends certainly belong together.
    """

    one: NDArray[np.int64]
    other: NDArray[np.int64]
    height: NDArray[np.int32]
    place: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragments:
    """Fragments of a block: ``labels`` are 1 … in the order of their first voxels; 0 is outside.

    seeded: whether a fragment has a seed. lowest: its lowest height. Both by label, from 0.
    edges: between labels, those that the block cannot decide.
    """

    labels: NDArray[np.int32]
    count: int
    seeded: NDArray[np.bool_]
    lowest: NDArray[np.int32]
    edges: Edges


def as_fragments(
    nodes: NDArray[np.uint8], parts: Sets, left: tuple[Array, Array, Array, Array], *, shape: Shape
) -> Fragments:
    """Return the fragments that the sets of a block's nodes have become.

    nodes: of all voxels, flat, in a block of ``shape``. left: the edges that are not decided: both
    ends as indices of voxels, height plus 1, place.
    """
    labels, count, has_seed, deepest = _labels_of(nodes, parts.parent, parts.of)
    one, other, height, place = left
    return Fragments(
        labels=labels.reshape(shape),
        count=count,
        seeded=has_seed,
        lowest=deepest,
        edges=Edges(
            one=labels[one].astype(np.int64), other=labels[other].astype(np.int64),
            height=height.astype(np.int32), place=place,
        ),
    )  # fmt: skip


@compiled
def _labels_of(nodes: Array, part: Array, parts: Array) -> tuple[Array, int, Array, Array]:
    """Return labels by first voxel, their number, and per label seeds and the lowest height."""
    labels = np.zeros(nodes.size, np.int32)
    count = 0
    for at in range(nodes.size):  # a root is the first voxel of its fragment
        if nodes[at] == 1:
            root = find(part, at)
            if root == at:
                count += 1
                labels[at] = count
            else:
                labels[at] = labels[root]
    seeded = np.zeros(count + 1, np.bool_)
    lowest = np.zeros(count + 1, np.int32)
    for at in range(nodes.size):
        if nodes[at] == 1 and part[at] == at:
            seeded[labels[at]] = parts[at].seeded
            lowest[labels[at]] = parts[at].lowest
    return labels, count, seeded, lowest
