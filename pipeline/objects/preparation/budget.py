"""What finding objects costs: memory of workers and driver, disk, tasks. Pure, from integers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from ...planning.blocks import BlockPlan
from ...volume.volume import VolumeSource
from ..definition.method import Method
from ..definition.scores import Scores
from ..merging.groups import Tree
from ..tasks.row_tasks import sweep_axis

WRITING_BYTES: Final = 20
FLOAT_BYTES: Final = 4
"""More where scores are floats."""
HOLES_BYTES: Final = 44
WATERSHED_BYTES: Final = 58
"""Bytes per voxel of a block."""
READING_BYTES: Final = 6
DISTANCE_BYTES: Final = 40
"""Bytes per voxel of a block with its surroundings, for a watershed and before it. All are measured
by ``benchmarks/objects_memory.py``."""
EDGES_BYTES: Final = 64
EDGES_READING_BYTES: Final = 8
"""The same for affinities, of a block, and per axis of a block with its surroundings."""
DRIVER_BYTES: Final = 300
"""Per block: its index in two lists, the name of a file, its states."""
INTERMEDIATE_BYTES: Final = 1.0
LABEL_BYTES: Final = 0.5
"""Bytes on the disk per voxel. Measured on scores of FIB-25: 0.29 for components with filled holes,
0.37 for a watershed with agglomeration; labels with their coarser levels 0.09 to 0.13."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectsBudget:
    """What a run needs; bytes of the disk are upper estimates."""

    blocks: int
    stages: int
    """Passes over blocks, groups or layers, one after the other."""
    tasks: int
    block_memory_bytes: int
    """On a worker's thread, in the pass that needs most."""
    driver_memory_bytes: int
    intermediate_bytes: int
    label_bytes: int
    """Of labels and table."""

    @property
    def disk_bytes(self) -> int:
        """The disk that the output takes during the run."""
        return self.intermediate_bytes + self.label_bytes


def reckon_objects(
    plan: BlockPlan, method: Method, scores: Scores, *, grey: VolumeSource | None, fills_holes: bool
) -> ObjectsBudget:
    """Return what a run needs. grey: the image whose grey values are measured."""
    passes = _passes(plan, method, fills_holes=fills_holes)
    voxels = math.prod(plan.shape)
    return ObjectsBudget(
        blocks=len(plan),
        stages=len(passes),
        tasks=sum(passes),
        block_memory_bytes=_block_bytes(plan, method, scores, grey, fills_holes),
        driver_memory_bytes=DRIVER_BYTES * len(plan),
        intermediate_bytes=int(INTERMEDIATE_BYTES * voxels),
        label_bytes=int(LABEL_BYTES * voxels),
    )


def _passes(plan: BlockPlan, method: Method, *, fills_holes: bool) -> list[int]:
    """Return the number of tasks of each pass of a run, in order."""
    tree, blocks = Tree(grid=plan.grid), len(plan)
    groups = [math.prod(tree.counts(level)) for level in range(tree.depth + 1)]
    merging = [*groups[1:], *groups[-2::-1]]
    passes = [blocks, *merging]
    if method.agglomerate != "none":
        passes += [blocks, *groups[1:], blocks]
    if fills_holes:
        passes += [blocks, *merging]
    return [*passes, plan.grid[0], blocks, plan.grid[sweep_axis(plan.grid)], 1]


def _block_bytes(
    plan: BlockPlan, method: Method, scores: Scores, grey: VolumeSource | None, fills_holes: bool
) -> int:
    core = plan.block((0, 0, 0)).core
    pairs = zip(core.shape, method.halo, plan.shape, strict=True)
    outer = math.prod(min(n + 2 * halo, whole) for n, halo, whole in pairs)
    classes = scores.all_classes
    within = classes.channel_count * np.dtype(classes.dtype).itemsize + 1 if classes else 0
    labelling = _labelling_bytes(method, core=core.voxels, outer=outer)
    channels = grey.channel_count * np.dtype(grey.dtype).itemsize if grey else 0
    is_float = np.dtype(scores.source.dtype).kind == "f"
    reading = scores.source.channel_count * (1 + is_float * FLOAT_BYTES) - 1
    writing = WRITING_BYTES + reading + channels
    background = HOLES_BYTES if fills_holes else 0
    return max(labelling + within * outer, max(writing, background) * core.voxels)


def _labelling_bytes(method: Method, *, core: int, outer: int) -> int:
    """Return what the first pass needs. core, outer: voxels of a block, and of what it reads."""
    distance = DISTANCE_BYTES * outer if method.seed_distance else 0
    if axes := len(method.edge_axes):
        reading = EDGES_READING_BYTES * axes * outer
        return max(EDGES_BYTES * core, distance) + reading
    growing = WATERSHED_BYTES * core + READING_BYTES * outer
    return max(growing, distance) if method.is_watershed else 0
