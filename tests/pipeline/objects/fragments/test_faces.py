"""Two blocks' surfaces give the edges between them that the whole volume has, in its order."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.base.geometry import Box
from pipeline.objects.definition.neighbourhood import neighbour_offsets
from pipeline.objects.fragments.faces import cut_face, edges_across, sides
from pipeline.objects.fragments.fragments import RANKS
from pipeline.objects.merging.groups import Tree

SHAPE, CORE = (3, 5, 4), (2, 2, 3)


def edges_of_the_volume(heights, mask, offsets):
    """Return height + 1 and place of every edge, by the indices of its two voxels."""
    index = np.arange(heights.size).reshape(heights.shape)
    found = {}
    for voxel in map(tuple, np.argwhere(mask).tolist()):
        lower = []
        for offset in offsets.tolist():
            other = tuple(a + b for a, b in zip(voxel, offset, strict=True))
            is_in = all(0 <= a < n for a, n in zip(other, heights.shape, strict=True))
            if is_in and mask[other]:
                order = int(heights[other]), int(index[other])
                lower += [order] if order < (int(heights[voxel]), int(index[voxel])) else []
        for rank, (_, other) in enumerate(sorted(lower)):
            ends = frozenset((int(index[voxel]), other))
            found[ends] = int(heights[voxel]) + 1, int(index[voxel]) * RANKS + rank
    return found


@pytest.mark.parametrize(
    ("connectivity", "per_slice"), [(6, False), (18, False), (26, False), (8, True)]
)
def test_every_edge_between_blocks_is_found_once_with_its_place_in_the_order(
    connectivity, per_slice
):
    rng = np.random.default_rng(connectivity)
    offsets = neighbour_offsets(connectivity, per_slice=per_slice)
    heights = rng.integers(0, 4, SHAPE).astype(np.uint16)
    mask = rng.random(SHAPE) < 0.8
    expected = edges_of_the_volume(heights, mask, offsets)
    tree = Tree(grid=tuple(-(-n // c) for n, c in zip(SHAPE, CORE, strict=True)))
    boxes, faces, voxels = {}, {}, {}
    for index in tree.groups(0):
        start = tuple(i * c for i, c in zip(index, CORE, strict=True))
        stop = tuple(min(a + c, n) for a, c, n in zip(start, CORE, SHAPE, strict=True))
        boxes[index] = box = Box(start, stop)
        around = tuple(slice(a, b + 2) for a, b in zip(start, stop, strict=True))
        nodes = np.pad(mask, 1)[around].astype(np.uint8) * 2
        nodes[1:-1, 1:-1, 1:-1] //= 2
        inside = np.flatnonzero(mask[box.slices])
        labels = np.zeros(box.shape, np.int32)  # each voxel is a fragment
        labels.flat[inside] = np.arange(1, len(inside) + 1)
        voxels[index] = np.arange(mask.size).reshape(SHAPE)[box.slices].ravel()[inside]
        faces[index] = {
            (axis, side): cut_face(
                labels, axis=axis, side=side, offsets=offsets,
                heights=np.ascontiguousarray(np.pad(heights, 1)[around]), nodes=nodes,
            )
            for axis, side in sides()
        }  # fmt: skip
    found = {}
    for one in boxes:
        for direction, other in tree.neighbours(one):
            axis = next(a for a in range(3) if direction[a])
            edges = edges_across(
                faces[one][axis, direction[axis]], faces[other][axis, -direction[axis]],
                blocks=(boxes[one], boxes[other]), direction=direction, offsets=offsets,
                shape=SHAPE,
            )  # fmt: skip
            for a, b, height, place in zip(
                edges.one, edges.other, edges.height, edges.place, strict=True
            ):
                ends = frozenset((int(voxels[one][a - 1]), int(voxels[other][b - 1])))
                found.setdefault(ends, []).append((int(height), int(place)))
    assert all(len(seen) == 2 and seen[0] == seen[1] for seen in found.values())
    block_of = {int(v): index for index, inside in voxels.items() for v in inside}
    between = {
        ends: order for ends, order in expected.items() if len({block_of[end] for end in ends}) == 2
    }
    assert {ends: seen[0] for ends, seen in found.items()} == between
