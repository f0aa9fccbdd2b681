"""Tasks of an evaluation on the workers: read one block, return its counts and figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..base.geometry import Box
from .contingency import ContingencyTable, count_pairs
from .grid import Index
from .merge_components import BlockFaces, Names
from .object_metrics import ObjectFigures, object_figures
from .objects import components
from .plan import EvaluatePlan
from .region import EvaluatedRegion
from .thresholds import count_scores


@dataclass(frozen=True, slots=True, kw_only=True)
class VoxelCounts:
    """Compared voxels: as classes, as scores at thresholds, or neither."""

    voxels: int
    """Without ignored ones."""
    classes: ContingencyTable | None = None
    scores: NDArray[np.int64] | None = None
    """See thresholds.count_scores."""

    def __add__(self, other: VoxelCounts) -> VoxelCounts:
        """Return the counts of both blocks, which were compared in the same way."""
        classes = None if self.classes is None or other.classes is None else (
            self.classes + other.classes
        )  # fmt: skip
        scores = None if self.scores is None or other.scores is None else self.scores + other.scores
        return VoxelCounts(voxels=self.voxels + other.voxels, classes=classes, scores=scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceResult:
    """One z: voxel counts, and figures of its objects per layer (None without true objects)."""

    z: int
    voxels: VoxelCounts
    objects: tuple[ObjectFigures, ...] | None
    true_ids: frozenset[int] = frozenset()
    """Ids of the true objects; the first two."""


def count_voxels(plan: EvaluatePlan, box: Box) -> VoxelCounts:
    """Compare the voxels of a box as classes and as scores, as far as the truth holds classes."""
    return _voxel_counts(EvaluatedRegion(plan, box))


def _voxel_counts(region: EvaluatedRegion) -> VoxelCounts:
    plan = region.plan
    voxels = int(np.count_nonzero(region.kept))
    if not plan.request.has_class_truth:
        return VoxelCounts(voxels=voxels)
    classes = scores = None
    if plan.classes is not None:
        classes = count_pairs(region.truth, region.classes, ignore=plan.request.ignore)
        classes.confusion()  # rejects object ids before their table grows
    if plan.scores is not None:
        scores = count_scores(
            region.positive[region.kept], region.scores[region.kept],
            thresholds=plan.request.thresholds,
        )  # fmt: skip
    return VoxelCounts(voxels=voxels, classes=classes, scores=scores)


def count_ids(plan: EvaluatePlan, box: Box) -> ContingencyTable:
    """Count the overlaps of stored ids in truth and prediction."""
    region = EvaluatedRegion(plan, box)
    return count_pairs(region.truth, region.classes, ignore=plan.request.ignore)


def score_slices(plan: EvaluatePlan, box: Box) -> list[SliceResult]:
    """Return the result of each slice of a box; slices are separate images."""
    return [_score_slice(region) for region in EvaluatedRegion(plan, box).slices()]


def _score_slice(region: EvaluatedRegion) -> SliceResult:
    z, voxels = region.box.start[0], _voxel_counts(region)
    if not region.has_objects:
        return SliceResult(z=z, voxels=voxels, objects=None)
    tables = [region.table(region.predicted_objects(layer)) for layer in region.plan.layers]
    figures = tuple(map(object_figures, tables))
    return SliceResult(z=z, voxels=voxels, objects=figures, true_ids=tables[0].first_true_ids)


def flood_region(plan: EvaluatePlan, box: Box, threshold: float) -> ContingencyTable:
    """Return the table of a watershed of a whole region at one threshold."""
    region = EvaluatedRegion(plan, box)
    return region.table(region.predicted_objects(threshold))


def label_faces(plan: EvaluatePlan, index: Index) -> tuple[BlockFaces, ...]:
    """Label the components of one block, truth first and then every layer; return the faces."""
    region = EvaluatedRegion(plan, plan.grid.block(index))
    return tuple(BlockFaces.of(*components(mask)) for mask in region.masks())


def count_components(
    plan: EvaluatePlan, index: Index, names: tuple[Names, ...]
) -> tuple[ContingencyTable, ...]:
    """Label one block again, replace labels by those of the whole volume, and count.

    names: in the order of :func:`label_faces`. Returns a table per layer.
    """
    region = EvaluatedRegion(plan, plan.grid.block(index))
    named = (name[components(mask)[0]] for mask, name in zip(region.masks(), names, strict=True))
    truth = region.truth if plan.request.truth_objects == "ids" else next(named)
    predictions = [region.classes] if plan.request.objects == "ids" else named
    return tuple(region.table(predicted, truth=truth) for predicted in predictions)
