"""Scores a prediction against the truth, block by block on a cluster, from exact sums."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Unpack

from distributed import Client

from ..base.errors import LabelError
from ..base.local_client import local_client
from ..base.location import Location
from .border_contrast import BorderContrast, border_contrast, sampled_box
from .confusion import ConfusionMatrix
from .contingency import ContingencyTable, RunningTotal
from .gather import results_of
from .grid import Index
from .merge_components import ComponentMerger
from .notes import notes_of
from .object_metrics import ObjectFigures, mean_figures, object_figures
from .plan import EvaluatePlan, plan_evaluation
from .request import EvaluateRequest, EvaluateSettings
from .result import Evaluation, Layer
from .tasks import (
    SliceResult,
    VoxelCounts,
    count_components,
    count_ids,
    count_voxels,
    flood_region,
    label_faces,
    score_slices,
)
from .thresholds import confusion_at

Watch = Callable[[str, int, int], Any]
"""Called with the current step, its finished tasks, and the number of its tasks."""


def evaluate_volume(
    prediction: str,
    truth: str,
    *,
    client: Client | None = None,
    watch: Watch | None = None,
    **settings: Unpack[EvaluateSettings],
) -> Evaluation:
    """Score a prediction against the truth, and return every figure.

    prediction, truth: local paths or URIs. client: a Dask client; by default, threads of this
    process do the work. settings: fields of EvaluateRequest. Raises kinds of OvertileError for what
    the user can fix, RunError for a run that did not complete.
    """
    plan = plan_evaluation(
        EvaluateRequest(
            prediction=Location.parse(prediction), truth=Location.parse(truth), **settings
        )
    )
    with local_client() if client is None else nullcontext(client) as active:
        return evaluate(plan, active, watch=watch)


def evaluate(plan: EvaluatePlan, client: Client, *, watch: Watch | None = None) -> Evaluation:
    """Evaluate a plan on a cluster."""
    started = time.monotonic()
    cluster = _Cluster(plan=plan, client=client, token=uuid.uuid4().hex[:12], watch=watch)
    if plan.request.per_slice:
        voxels, layers, true_ids = _slices(cluster)
    else:
        voxels = cluster.voxel_counts()
        figures, true_ids = _figures(cluster)
        layers = _layers(plan, voxels, figures)
    _check(plan, voxels)
    classes = None if voxels.classes is None else voxels.classes.confusion()
    return Evaluation(
        plan=plan,
        classes=classes,
        notes=tuple(
            notes_of(plan, classes, true_ids=true_ids, voxels=voxels, contrast=cluster.contrast())
        ),
        layers=layers,
        voxels=voxels.voxels,
        seconds=time.monotonic() - started,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cluster:
    """Submits the tasks of one evaluation."""

    plan: EvaluatePlan
    client: Client
    token: str
    watch: Watch | None

    def each(
        self, what: str, call: Callable[[Any], tuple[Any, ...]], items: list[Any]
    ) -> Iterator[tuple[Any, Any]]:
        """Yield (item, result) in the order in which they finish."""
        found = results_of(self.client, items, call, key=f"evaluate-{what}", token=self.token)
        for number, pair in enumerate(found, start=1):
            if self.watch is not None:
                self.watch(what, number, len(items))
            yield pair

    def voxel_counts(self) -> VoxelCounts:
        """Return the sum over all blocks."""
        plan = self.plan
        if not plan.request.has_class_truth and plan.request.ignore is None:
            return VoxelCounts(voxels=plan.grid.box.voxels)
        found = self.each(
            "voxels", lambda i: (count_voxels, plan, plan.grid.block(i)), [*plan.grid]
        )
        return reduce(add, (counts for _, counts in found))

    def contrast(self) -> BorderContrast | None:
        """Return a sample of the scores that are used as a boundary between objects."""
        plan = self.plan
        if plan.scores is None or plan.request.objects is None:
            return None
        box = sampled_box(plan)
        ((_, found),) = self.each("sample", lambda one: (border_contrast, plan, one), [box])
        contrast: BorderContrast = found
        return contrast


def _slices(cluster: _Cluster) -> tuple[VoxelCounts, tuple[Layer, ...], frozenset[int]]:
    """Return voxel counts, figures of objects as means over the slices with objects, some ids."""
    plan = cluster.plan
    found = cluster.each("slices", lambda i: (score_slices, plan, plan.grid.block(i)), [*plan.grid])
    each: list[SliceResult] = [one for _, slab in found for one in slab]
    results = sorted(each, key=lambda one: one.z)
    voxels = reduce(add, (one.voxels for one in results))
    with_objects = [(one.z, one.objects) for one in results if one.objects is not None]
    if not with_objects:
        raise LabelError(_no_object(plan))
    slices = [
        tuple((z, figures[number]) for z, figures in with_objects)
        for number in range(len(plan.layers))
    ]
    means = [mean_figures([figures for _, figures in one]) for one in slices]
    true_ids: frozenset[int] = frozenset().union(*(one.true_ids for one in results))
    return voxels, _layers(plan, voxels, means, slices), true_ids


def _figures(cluster: _Cluster) -> tuple[list[ObjectFigures] | None, frozenset[int]]:
    """Return the figures of objects per layer, from one table of the whole box each, some ids."""
    plan = cluster.plan
    if plan.request.objects is None:
        return None, frozenset()
    tables = {"ids": _ids, "components": _components, "watershed": _watershed}
    found = tables[plan.request.objects](cluster)
    if not found[0].foreground().voxels:
        raise LabelError(_no_object(plan))
    return [object_figures(table) for table in found], found[0].first_true_ids


def _ids(cluster: _Cluster) -> list[ContingencyTable]:
    plan = cluster.plan
    if plan.request.truth_objects != "ids":
        return _components(cluster)
    found = cluster.each("objects", lambda i: (count_ids, plan, plan.grid.block(i)), [*plan.grid])
    total = RunningTotal()
    for _, table in found:
        total.add(table)
    return [total.table()]


def _watershed(cluster: _Cluster) -> list[ContingencyTable]:
    plan, box = cluster.plan, cluster.plan.grid.box
    found = dict(cluster.each("watershed", lambda t: (flood_region, plan, box, t), [*plan.layers]))
    return [found[threshold] for threshold in plan.layers]


def _components(cluster: _Cluster) -> list[ContingencyTable]:
    """Label every block, join components that touch, and count with the joined labels."""
    plan, blocks = cluster.plan, [*cluster.plan.grid]
    mergers: list[ComponentMerger] = []
    for index, faces in cluster.each("labelling", lambda i: (label_faces, plan, i), blocks):
        mergers = mergers or [ComponentMerger(blocks=plan.grid.counts) for _ in faces]
        for merger, one in zip(mergers, faces, strict=True):
            merger.add(index, one)
    names = [merger.names() for merger in mergers]

    def count(index: Index) -> tuple[Any, ...]:
        return count_components, plan, index, tuple(one[index] for one in names)

    totals = [RunningTotal() for _ in plan.layers]
    for _, tables in cluster.each("objects", count, blocks):
        for total, table in zip(totals, tables, strict=True):
            total.add(table)
    return [total.table() for total in totals]


def _layers(
    plan: EvaluatePlan,
    voxels: VoxelCounts,
    objects: list[ObjectFigures] | None,
    slices: list[tuple[tuple[int, ObjectFigures], ...]] | None = None,
) -> tuple[Layer, ...]:
    count = len(plan.layers)
    pixels: tuple[ConfusionMatrix | None, ...] = (
        (None,) * count if voxels.scores is None else confusion_at(voxels.scores)
    )
    figures: list[ObjectFigures | None] = [None] * count if objects is None else [*objects]
    return tuple(
        Layer(threshold=threshold, pixels=matrix, objects=one, slices=per_slice)
        for threshold, matrix, one, per_slice in zip(
            plan.layers, pixels, figures, slices or [()] * count, strict=True
        )
    )


def _check(plan: EvaluatePlan, voxels: VoxelCounts) -> None:
    """Raise LabelError if the truth has no voxel or class to compare with."""
    if not voxels.voxels:
        raise LabelError(
            f"no voxel to compare: the truth is {plan.request.ignore} (ignored) everywhere"
        )
    if voxels.scores is not None and not voxels.scores[1].any():
        chosen = plan.request.truth_objects
        label = str(plan.score_class) if chosen == "ids" else f"other than {chosen}"
        raise LabelError(
            f"the truth has no voxel of {plan.score_name} there (label {label}): choose another "
            "class with --scores, or another part with --slices"
        )


def _no_object(plan: EvaluatePlan) -> str:
    chosen = plan.request.truth_objects
    what = "every voxel is 0" if chosen == "ids" else f"no voxel is of class {chosen}"
    return f"the truth has no object there: {what}; see --truth-objects, --slices and --ignore"
