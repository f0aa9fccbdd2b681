"""The first pass over one block: its fragments, and the surface that its neighbours need."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...base.geometry import Box, Shape
from ..definition.distance import squared_distance
from ..definition.method import HIGHEST, Method
from .components import label_components
from .edge_labelling import label_edges
from .faces import cut_face
from .forest import BEYOND, grow_fragments
from .fragments import Edges
from .labelled_block import LabelledBlock, Place


def label_block(
    scores_zyx: NDArray[Any],
    *,
    core: Box,
    method: Method,
    shape: Shape,
    within: NDArray[np.bool_] | None = None,
) -> LabelledBlock:
    """Return the fragments of a block.

    scores_zyx: stored integers, uint8 or uint16, of :func:`.labelled_block.outer_box`; affinities
    are (edge axes, z, y, x). core: the block's box in the volume of ``shape``. within: where
    objects can be, of the same box; everywhere by default, and for affinities.
    """
    place = Place(core=core, shape=shape, method=method)
    outer = place.outer
    assert scores_zyx.shape[-3:] == outer.shape
    if method.edge_axes:
        return label_edges(scores_zyx, place)
    if method.is_watershed:
        return _watershed(scores_zyx, core.relative_to(outer.start), place, within)
    assert method.threshold is not None
    mask = method.is_inside(scores_zyx, method.threshold)
    if within is not None:
        mask &= within
    labels, count = label_components(mask, method.offsets)
    return block_of_components(labels, count, core=core, method=method, shape=shape)


def block_of_components(
    labels: NDArray[np.int32], count: int, *, core: Box, method: Method, shape: Shape
) -> LabelledBlock:
    """Return a block of connected components, as :func:`label_block` does."""
    place = Place(core=core, shape=shape, method=method)
    none = np.empty(0, np.int64)
    return LabelledBlock(
        labels=labels,
        records=place.measured(labels, count),
        seeded=np.ones(count, np.bool_),
        lowest=np.zeros(count, np.int32),
        edges=Edges(one=none, other=none, height=none.astype(np.int32), place=none),
        faces={
            (axis, side): cut_face(labels, axis=axis, side=side, offsets=method.offsets)
            for axis, side in place.sides()
        },
    )


def _watershed(
    scores: NDArray[Any], inner: Box, place: Place, within: NDArray[np.bool_] | None
) -> LabelledBlock:
    method = place.method
    can_be = _nodes(scores, method, within)
    seeds, heights = _seeds_and_heights(scores, inner, method, can_be)
    heights, nodes = _with_halo(heights, inner), _with_halo(can_be.astype(np.uint8), inner)
    core_nodes = nodes[1:-1, 1:-1, 1:-1].copy()
    nodes *= BEYOND
    nodes[1:-1, 1:-1, 1:-1] = core_nodes
    found = grow_fragments(
        heights, nodes, seeds, offsets=method.offsets, depth=method.depth,
        start=place.core.start, shape=place.shape,
    )  # fmt: skip
    faces = {
        (axis, side): cut_face(
            found.labels, axis=axis, side=side, offsets=method.offsets, heights=heights,
            nodes=nodes, seeds=seeds,
        )
        for axis, side in place.sides()
    }  # fmt: skip
    return place.grown(found, faces)


def _nodes(
    scores: NDArray[Any], method: Method, within: NDArray[np.bool_] | None
) -> NDArray[np.bool_]:
    """Return where objects can be."""
    everywhere = np.ones(scores.shape, np.bool_) if within is None else within
    if method.threshold is None:
        return everywhere
    return everywhere & method.is_inside(scores, method.threshold)


def _seeds_and_heights(
    scores: NDArray[Any], inner: Box, method: Method, can_be: NDArray[np.bool_]
) -> tuple[NDArray[np.int32] | None, NDArray[np.uint16]]:
    """Return the labels of the core's seeds, and the heights of the whole outer box."""
    heights = scores.astype(np.uint16)
    if method.role == "foreground":
        heights = np.iinfo(scores.dtype).max - heights
    if not method.has_seeds:
        return None, heights
    assert method.seed_threshold is not None
    deep = method.is_inside(scores, method.seed_threshold) & can_be
    if method.seed_distance:
        limit = method.seed_distance
        squares = squared_distance(deep, spacing=method.spacing_of_distance, limit=limit)
        deep = squares > limit * limit
        if method.flood == "distance":
            share = np.sqrt(np.minimum(squares, limit * limit) / (limit * limit))
            heights = (HIGHEST - np.rint(HIGHEST * share)).astype(np.uint16)
    seeds, _ = label_components(deep[inner.slices], method.offsets)
    return seeds, heights


def _with_halo(values: NDArray[Any], inner: Box) -> NDArray[Any]:
    """Return the core with one voxel around it, 0 beyond the volume."""
    padded = np.zeros(tuple(n + 2 for n in inner.shape), values.dtype)
    source = Box(
        tuple(max(0, a - 1) for a in inner.start),
        tuple(min(n, b + 1) for b, n in zip(inner.stop, values.shape, strict=True)),
    )
    target = source.relative_to(tuple(a - 1 for a in inner.start))
    padded[target.slices] = values[source.slices]
    return padded
