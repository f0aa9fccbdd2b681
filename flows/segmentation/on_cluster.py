"""One run on a cluster, the same for the shell and for the Prefect flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy import ClusterSpec, open_cluster
from deploy.clusters.fork_server import start_fork_server
from pipeline.base.errors import PlanError
from pipeline.base.geometry import Shape
from pipeline.objects.definition.request import PATH, ObjectsRequest
from pipeline.objects.definition.scores import choose_class
from pipeline.segmentation.prepare import Prepared
from pipeline.segmentation.run import SegmentRun
from pipeline.segmentation.run_report import write_report
from pipeline.segmentation.sequence import Steps, Watch, complete
from pipeline.segmentation.summary import RunSummary

from ..options.objects import ObjectDefinition
from ..preflight.checks import check_before_start

if TYPE_CHECKING:
    from pipeline.objects.run import ObjectsRun


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEnd:
    """Where a run shows its messages, its progress and its result."""

    say: Callable[[str], None]
    warn: Callable[[str], None]
    checked: Callable[[Prepared, str], None]
    """Called after the preflight checks, with the address of the Dask dashboard."""
    watch: Watch
    steps: Steps
    find_objects: Callable[[ObjectsRun], Any]
    """Finds the objects of a segmentation, and shows the progress and the result."""


def segment_on_cluster(
    prepared: Prepared,
    *,
    weights: str,
    spec: ClusterSpec,
    front_end: FrontEnd,
    objects: ObjectDefinition | None = None,
) -> RunSummary:
    """Open the cluster, check it, do the run, and find objects where they are defined.

    Raises kinds of OvertileError, RunError.
    """
    if objects is not None:
        check_definition(objects, prepared)
    if spec.kind == "local":
        start_fork_server(with_torch=True)
    with open_cluster(spec, notify=front_end.say) as client:
        check_before_start(client, prepared, weights=weights, notify=front_end.warn)
        front_end.checked(prepared, client.dashboard_link)
        run = SegmentRun.start(prepared, client, notify=front_end.say)
        summary = complete(run, steps=front_end.steps, watch=front_end.watch)
        if objects is not None and prepared.request.share is None:  # else overtile finish does it
            from pipeline.objects.preparation.prepare import prepare_objects  # with numba: 1 s
            from pipeline.objects.run import ObjectsRun

            found = prepare_objects(objects_request(objects, prepared))
            front_end.find_objects(ObjectsRun.start(found, client))
            write_report(summary)  # again: now it links to the report of the objects
    return summary


def check_definition(objects: ObjectDefinition, prepared: Prepared) -> None:
    """Raise PlanError or VolumeError, before anything is computed, for objects that do not fit."""
    request = prepared.request
    if "scores" not in request.outputs:
        raise PlanError("--objects needs scores: pass --outputs classes,scores too")
    objects_request(objects, prepared)
    names = prepared.predictor.class_names
    choose_class(objects.score_class, names, len(names))


def objects_request(objects: ObjectDefinition, prepared: Prepared) -> ObjectsRequest:
    """Return the request for the objects of a segmentation, into its own labels."""
    request = prepared.request
    return ObjectsRequest(
        scores=request.output, output=request.output / PATH, format=request.format,
        overwrite=prepared.output_action == "replaced", retries=request.retries,
        intensity=prepared.source, intensity_start=_start(prepared), **objects.values(),
    )  # fmt: skip


def _start(prepared: Prepared) -> Shape:
    """Return the voxel of the input at which the output begins."""
    box = prepared.part.box
    is_cropped = box is not None and prepared.request.frame == "box"
    return box.start if box is not None and is_cropped else (0, 0, 0)
