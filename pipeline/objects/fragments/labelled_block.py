"""What the first pass leaves of a block: fragments, and the surface that its neighbours need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...base.geometry import Box, Shape
from ..definition.method import Method
from .faces import Face, sides
from .fragments import Edges, Fragments
from .measures import Records, measure


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledBlock:
    """Fragments of a block, 1 … n; all arrays but ``labels`` are per fragment, from fragment 1.

    faces: by axis and side, those towards other blocks. The ends of edges count from 0.
    """

    labels: NDArray[np.int32]
    records: Records
    seeded: NDArray[np.bool_]
    lowest: NDArray[np.int32]
    edges: Edges
    faces: Mapping[tuple[int, int], Face]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a block lies, and what objects are."""

    core: Box
    shape: Shape
    method: Method

    @property
    def outer(self) -> Box:
        """The box of scores that the block needs, inside the volume."""
        return outer_box(self.core, self.method, self.shape)

    def measured(self, labels: NDArray[np.int32], count: int) -> Records:
        """Return the records of labels 1 … count."""
        return measure(
            labels, count, core=self.core, shape=self.shape, per_slice=self.method.per_slice
        )

    def sides(self) -> Iterator[tuple[int, int]]:
        """Yield axis and side of the faces towards other blocks."""
        core, shape = self.core, self.shape
        for axis, side in sides():
            if core.start[axis] > 0 if side < 0 else core.stop[axis] < shape[axis]:
                yield axis, side

    def grown(self, found: Fragments, faces: Mapping[tuple[int, int], Face]) -> LabelledBlock:
        """Return the block with fragments that grew in it. Without seeds, all count as seeded."""
        labels, edges = np.ascontiguousarray(found.labels), found.edges
        every = np.ones(found.count, np.bool_)
        return LabelledBlock(
            labels=labels,
            records=self.measured(labels, found.count),
            seeded=found.seeded[1:] if self.method.has_seeds else every,
            lowest=found.lowest[1:],
            edges=Edges(
                one=edges.one - 1, other=edges.other - 1, height=edges.height, place=edges.place
            ),
            faces=faces,
        )


def outer_box(core: Box, method: Method, shape: Shape) -> Box:
    """Return the box of scores that a block needs, inside the volume."""
    low = tuple(a - h for a, h in zip(core.start, method.halo_before, strict=True))
    high = tuple(b + h for b, h in zip(core.stop, method.halo, strict=True))
    return Box(low, high).clipped_to(Box.of_shape(shape))
