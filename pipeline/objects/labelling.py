"""The first pass over one block: its fragments, and the surface that its neighbours need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.geometry import Box, Shape
from .components import label_components
from .distance import squared_distance
from .faces import Face, cut_face, sides
from .forest import INSIDE, Edges, Fragments, grow_fragments
from .measures import Records, measure
from .method import HIGHEST, Method


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


def outer_box(core: Box, method: Method, shape: Shape) -> Box:
    """Return the box of scores that a block needs, inside the volume."""
    low = tuple(a - h for a, h in zip(core.start, method.halo, strict=True))
    high = tuple(b + h for b, h in zip(core.stop, method.halo, strict=True))
    return Box(low, high).clipped_to(Box.of_shape(shape))


def label_block(
    scores_zyx: NDArray[Any], *, core: Box, method: Method, shape: Shape
) -> LabelledBlock:
    """Return the fragments of a block.

    scores_zyx: stored integers, uint8 or uint16, of :func:`outer_box`. core: the block's box in
    the volume of ``shape``.
    """
    outer = outer_box(core, method, shape)
    assert scores_zyx.shape == outer.shape
    if not method.is_watershed:
        assert method.threshold is not None
        mask = method.is_inside(scores_zyx, method.threshold)
        labels, count = label_components(mask, method.offsets)
        return _labelled(labels, count, core=core, method=method, shape=shape)
    inner = core.relative_to(outer.start)
    seeds, heights = _seeds_and_heights(scores_zyx, inner, method)
    nodes = _nodes(scores_zyx, method)
    heights, nodes = _with_halo(heights, inner), _with_halo(nodes, inner)
    nodes[1:-1, 1:-1, 1:-1] *= INSIDE  # 2 in the halo, see forest.py
    halo = np.ones(nodes.shape, np.bool_)
    halo[1:-1, 1:-1, 1:-1] = False
    nodes[halo] *= 2
    fragments = grow_fragments(
        heights, nodes, seeds, offsets=method.offsets, depth=method.depth,
        start=core.start, shape=shape,
    )  # fmt: skip
    return _labelled(
        fragments.labels, fragments.count, core=core, method=method, shape=shape,
        fragments=fragments, heights=heights, nodes=nodes, seeds=seeds,
    )  # fmt: skip


def _nodes(scores: NDArray[Any], method: Method) -> NDArray[np.uint8]:
    if method.threshold is None:
        return np.ones(scores.shape, np.uint8)
    return method.is_inside(scores, method.threshold).astype(np.uint8)


def _seeds_and_heights(
    scores: NDArray[Any], inner: Box, method: Method
) -> tuple[NDArray[np.int32] | None, NDArray[np.uint16]]:
    """Return the labels of the core's seeds, and the heights of the whole outer box."""
    heights = scores.astype(np.uint16)
    if method.role == "foreground":
        heights = np.iinfo(scores.dtype).max - heights
    if not method.has_seeds:
        return None, heights
    assert method.seed_threshold is not None
    deep = method.is_inside(scores, method.seed_threshold)
    if method.threshold is not None:
        deep &= method.is_inside(scores, method.threshold)
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


def _labelled(
    labels: NDArray[np.int32],
    count: int,
    *,
    core: Box,
    method: Method,
    shape: Shape,
    fragments: Fragments | None = None,
    heights: NDArray[np.uint16] | None = None,
    nodes: NDArray[np.uint8] | None = None,
    seeds: NDArray[np.int32] | None = None,
) -> LabelledBlock:
    labels = np.ascontiguousarray(labels)
    none = np.empty(0, np.int64)
    edges = fragments.edges if fragments else Edges(
        one=none, other=none, height=none.astype(np.int32), place=none
    )  # fmt: skip
    faces = {
        (axis, side): cut_face(
            labels, axis=axis, side=side, offsets=method.offsets, heights=heights, nodes=nodes,
            seeds=seeds,
        )
        for axis, side in sides()
        if (core.start[axis] > 0 if side < 0 else core.stop[axis] < shape[axis])
    }  # fmt: skip
    is_seeded = fragments is not None and method.has_seeds
    return LabelledBlock(
        labels=labels,
        records=measure(labels, count, core=core, shape=shape, per_slice=method.per_slice),
        seeded=fragments.seeded[1:] if fragments and is_seeded else np.ones(count, np.bool_),
        lowest=fragments.lowest[1:] if fragments else np.zeros(count, np.int32),
        edges=Edges(
            one=edges.one - 1, other=edges.other - 1, height=edges.height, place=edges.place
        ),
        faces=faces,
    )
