"""What a request leaves open: the size of blocks, thresholds, lengths in integer steps."""

from __future__ import annotations

import math
from typing import Final

from ...base.errors import PlanError
from ...base.geometry import Halo, Shape
from ...base.text import shape_text
from ...planning.blocks import BlockPlan
from ...volume.micrometres import voxel_size_um
from ..definition.lengths import in_steps
from ..definition.method import Method
from ..definition.request import ObjectsRequest
from ..definition.scores import Scores

VOLUME_BLOCK: Final = (128, 128, 128)
PLANE_BLOCK: Final = (1, 2048, 2048)
BLOCKS_ENOUGH: Final = 512
BLOCK_VOXELS: Final = 2**24
BLOCK_VOXELS_BELOW: Final = 2**31
"""Voxels of a block, with one more on each side, are numbered by int32."""
DEFAULT_DEPTH: Final = 0.1
"""The best of 0.02 to 0.3 by variation of information on three parts of FIB-25."""


def plan_blocks(shape: Shape, *, core: Shape) -> BlockPlan:
    """Return the plan of blocks without halo. Raises PlanError where they are too large."""
    if math.prod(min(c, n) + 2 for c, n in zip(core, shape, strict=True)) >= BLOCK_VOXELS_BELOW:
        raise PlanError(
            f"block {shape_text(core)}: expected fewer than {BLOCK_VOXELS_BELOW:,} voxels; pass a "
            "smaller --block"
        )
    none = (0, 0, 0)
    return BlockPlan(shape=shape, core=core, halo=Halo(none, none), divisor=(1, 1, 1))


def choose_core(shape: Shape) -> Shape:
    """Return the size of blocks: larger ones where the volume has many, none beyond the volume."""
    core = list(VOLUME_BLOCK if shape[0] > 1 else PLANE_BLOCK)
    while True:
        blocks = math.prod(-(-n // c) for n, c in zip(shape, core, strict=True))
        axis = min((a for a in range(3) if shape[a] > core[a]), key=lambda a: core[a], default=None)
        if axis is None or blocks <= BLOCKS_ENOUGH or 2 * math.prod(core) > BLOCK_VOXELS:
            break
        core[axis] *= 2
    return tuple(min(c, -(-n // 16) * 16) if n > 1 else 1 for c, n in zip(core, shape, strict=True))


def choose_method(request: ObjectsRequest, scores: Scores) -> Method:
    """Return the definition of objects in stored integers and integer lengths. Raises PlanError."""
    is_watershed = request.method == "watershed"
    is_class_of_objects = scores.role == "foreground" and not scores.edge_axes
    if request.agglomerate != "none" and is_class_of_objects:
        raise PlanError(
            f"--agglomerate {request.agglomerate} merges objects across a boundary of low scores: "
            f"class {scores.class_name} is that of the objects; see --role"
        )
    threshold = request.threshold
    if threshold is None and not (is_watershed and scores.role == "boundary"):
        threshold = 0.5
    seeds, depth = request.seed_threshold, request.depth
    if is_watershed and request.seed_distance is not None and seeds is None:
        seeds = 0.5
    if is_watershed and seeds is None and depth is None:
        depth = DEFAULT_DEPTH
    _check_seeds(request, scores, threshold)
    return Method(
        role=scores.role,
        threshold=None if threshold is None else scores.at_least(threshold),
        connectivity=request.connectivity,
        per_slice=request.per_slice,
        seed_threshold=None if seeds is None else scores.at_least(seeds),
        seed_distance=0 if request.seed_distance is None else in_steps(request.seed_distance),
        depth=0 if depth is None else max(1, round(depth * scores.highest)),
        agglomerate=request.agglomerate,
        merge_threshold=0
        if request.merge_threshold is None
        else scores.at_least(request.merge_threshold),
        spacing=_spacing(scores),
        edge_axes=scores.edge_axes,
    )


def _check_seeds(request: ObjectsRequest, scores: Scores, threshold: float | None) -> None:
    """Raise PlanError if all of the objects would be seeds, by thresholds that are reversed."""
    seeds = request.seed_threshold
    if seeds is None or threshold is None or request.seed_distance is not None:
        return
    is_above = scores.role == "foreground"
    if seeds < threshold if is_above else seeds > threshold:
        raise PlanError(
            f"--seed-threshold {seeds:g} with a threshold of {threshold:g}: seeds would be whole "
            f"objects; expected a seed threshold {'above' if is_above else 'below'} it, since "
            f"{_role_text(scores)}"
        )


def _role_text(scores: Scores) -> str:
    """Return why scores are high, or low, inside objects."""
    if scores.edge_axes:
        return "affinities are high inside objects"
    kind = "that of the objects" if scores.role == "foreground" else "a boundary"
    return f"class {scores.class_name} is {kind}"


def _spacing(scores: Scores) -> Shape:
    """Return the size of a voxel in steps: of µm, or of the finest axis without any unit.

    An axis that states no unit, beside others that do, counts as the finest of these.
    """
    source = scores.source
    sizes = [one for axis, one in zip("zyx", voxel_size_um(source), strict=True)
             if axis in source.spatial_axes]  # fmt: skip
    if stated := [one for one in sizes if one is not None]:
        known = [min(stated) if one is None else one for one in sizes]
        return tuple(max(1, in_steps(one)) for one in [1.0] * (3 - len(sizes)) + known)
    finest = min(source.voxel_size)
    return tuple(max(1, in_steps(one / finest)) for one in source.voxel_size)
