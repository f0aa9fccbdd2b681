"""The first pass over one block of affinities: its fragments, and the edges across its faces.

Edges exist where the affinity reaches the threshold; voxels without any are background. What a
seed is, or a component, is decided per edge, so that two blocks agree on the edges between them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...base.geometry import Box
from ..definition.distance import squared_distance
from .edge_forest import BlockEdges, grow_along_edges
from .faces import NO_RANK, Face, plane
from .labelled_block import LabelledBlock, Place


def label_edges(affinities: NDArray[Any], place: Place) -> LabelledBlock:
    """Return the fragments of a block.

    affinities: stored integers (edge axes, z, y, x) of ``place.outer``, of the edge from each voxel
    to the one before it; 0 where there is none.
    """
    method, inner = place.method, place.core.relative_to(place.outer.start)
    assert method.threshold is not None
    highest = int(np.iinfo(affinities.dtype).max)
    known = _with_next(affinities, inner)
    certain, seeded = _certain(affinities, known, place)
    edges = BlockEdges(
        axes=method.edge_axes,
        heights=(highest - known).astype(np.uint16),
        certain=certain,
        highest=highest - method.threshold,
    )
    if seeded is None:
        seeded = edges.in_seeds()
    found = grow_along_edges(
        edges, seeded, depth=method.depth, start=place.core.start, shape=place.shape
    )
    faces = {
        (axis, side): cut_edges(found.labels, edges, axis=axis, side=side)
        for axis, side in place.sides()
    }
    return place.grown(found, faces)


def cut_edges(labels: NDArray[np.int32], edges: BlockEdges, *, axis: int, side: int) -> Face:
    """Return a face of a block. Its heights are those of the edges across it, of any height.

    seeds: where such an edge is certain. ranks: the axis, in the block after the face, whose voxels
    the edges are of, where they exist; see faces.edges_across.
    """
    at = plane(labels.shape, axis, side)
    shape = labels[at].shape
    heights, certain = np.full(shape, 65535, np.uint16), np.zeros(shape, np.bool_)
    ranks = np.full((1, *shape), NO_RANK, np.uint8)
    if axis in edges.axes:
        across = slice(0, 1) if side < 0 else slice(labels.shape[axis], labels.shape[axis] + 1)
        part = tuple(across if a == axis else slice(None, -1) for a in range(3))
        heights = edges.heights[edges.axes.index(axis)][part].copy()
        certain = edges.certain[edges.axes.index(axis)][part].copy()
        if side < 0:
            ranks[0][heights <= edges.highest] = axis
    return Face(
        labels=np.ascontiguousarray(labels[at]), heights=heights, seeds=certain, ranks=ranks
    )


def _certain(
    affinities: NDArray[Any], known: NDArray[Any], place: Place
) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
    """Return which edges are certain, and which voxels are in seeds; None: the ends of these edges.

    known: the affinities of the core with the voxels next to it at its high sides.
    """
    method = place.method
    assert method.threshold is not None
    exists = known >= method.threshold
    if not method.is_watershed:
        return exists, None
    if method.seed_threshold is None:
        return np.zeros(known.shape, np.bool_), None
    if not method.seed_distance:
        return exists & (known >= method.seed_threshold), None
    deep = _deep(affinities, place)
    inner = place.core.relative_to(place.outer.start)
    behind = _with_next(deep[None], inner)[0]
    certain = exists
    for k, axis in enumerate(method.edge_axes):
        before = inner.shifted(tuple(-int(a == axis) for a in range(3)))
        certain[k] &= behind & _with_next(deep[None], before)[0]
    return certain, deep[inner.slices]


def _deep(affinities: NDArray[Any], place: Place) -> NDArray[np.bool_]:
    """Return which voxels of the outer box are seeds: far inside, by the distance from all others.

    A voxel is inside if none of its affinities is below the seed threshold. Beyond the volume, and
    in the last planes of the box, whose edges are not all known, nothing is outside. So the voxels
    behind the block may be seen as deep where they are not: an edge across a face is certain where
    both blocks see it so, and the block behind knows.
    """
    method, outer = place.method, place.outer
    assert method.seed_threshold is not None
    inside = np.ones(outer.shape, np.bool_)
    for axis, values in zip(method.edge_axes, affinities, strict=True):
        joined = values >= method.seed_threshold
        first: tuple[slice | int, ...] = (slice(None),) * axis
        if outer.start[axis] == 0:
            joined[(*first, 0)] = True
        inside &= joined
        inside[(*first, slice(None, -1))] &= joined[(*first, slice(1, None))]
    limit = method.seed_distance
    squares = squared_distance(inside, spacing=method.spacing_of_distance, limit=limit)
    deep: NDArray[np.bool_] = squares > limit * limit
    return deep


def _with_next(values: NDArray[Any], inner: Box) -> NDArray[Any]:
    """Return a box (k, z, y, x) of values with one voxel more at its high sides, 0 beyond them."""
    padded = np.zeros((len(values), *(n + 1 for n in inner.shape)), values.dtype)
    wanted = Box(inner.start, tuple(n + 1 for n in inner.stop))
    source = wanted.clipped_to(Box.of_shape(values.shape[1:]))
    target = source.relative_to(inner.start)
    padded[(slice(None), *target.slices)] = values[(slice(None), *source.slices)]
    return padded
