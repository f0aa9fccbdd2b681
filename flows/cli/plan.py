"""``overtile plan``: shows what segment, or objects, would do and cost."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

from pipeline.base.errors import PlanError

from ..options.cluster import ClusterOptions
from ..options.declared import words_of
from ..options.objects import ObjectDefinition, ObjectsOptions, ScoresOptions, WithObjects
from ..options.segment import PlanFiles, SegmentOptions
from ..text.objects_plan import objects_plan_json, objects_plan_rows, objects_plan_text
from ..text.terminal import say, show
from .arguments import add_options, read_options
from .object_arguments import read_definition, read_segment_options

if TYPE_CHECKING:
    from deploy import ClusterSpec
    from pipeline.objects.preparation.prepared import PreparedObjects
    from pipeline.segmentation.calibration import Calibration
    from pipeline.segmentation.prepare import Prepared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile plan``: those of segment, and of existing scores."""
    add_options(
        parser, PlanFiles, SegmentOptions, WithObjects, ObjectDefinition, ScoresOptions,
        ClusterOptions,
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    measure = parser.add_argument_group("measuring")
    measure.add_argument(
        "--measure",
        action="store_true",
        help="compute some blocks on the cluster, for about a minute, and print how long the run "
        "takes; what they write is deleted",
    )
    measure.add_argument(
        "--price",
        type=float,
        metavar="X",
        help="price of an hour of one core, or of one GPU where the workers have GPUs",
    )


def run(options: argparse.Namespace) -> None:
    """Print what segment, or objects, would do."""
    spec = read_options(ClusterOptions, options).spec()  # raises what a run would raise
    check_price(options)
    if options.weights is None:
        plan_existing_scores(options, spec)
    else:
        plan_segmentation(options, spec)


def plan_segmentation(options: argparse.Namespace, spec: ClusterSpec) -> None:
    """Print what segment would do, with the objects that it would find."""
    from pipeline.segmentation.prepare import prepare

    from ..segmentation.expected_room import expected_room
    from ..text.calibration import calibration_text
    from ..text.plan import plan_json, plan_text

    for option in words_of(read_options(ScoresOptions, options)):
        raise PlanError(f"{option} is for scores that exist: leave it out, or --weights")
    parameters = read_segment_options(options)
    request = parameters.request(input=options.input, output=options.output)
    predictor = parameters.predictor(options.weights)
    prepared = prepare(request, predictor, room=expected_room(spec))
    found = planned_objects(options, prepared, spec)
    if options.json:
        plan = plan_json(prepared)
        if options.shard:
            plan["share"] = {"shard": options.shard, "blocks": prepared.computed_blocks}
        if found is not None:
            plan["objects"] = objects_plan_json(found)
        if options.measure:
            plan["measured"] = measured(prepared, spec, weights=options.weights).to_json()
        print(json.dumps(plan, indent=2))
        return
    rows = objects_plan_rows(found, threads=spec.threads_per_worker) if found else []
    show(plan_text(prepared, *rows))
    if options.shard:
        show(f"shard {options.shard} computes {prepared.computed_blocks:,} of these blocks")
    if options.measure:
        calibration = measured(prepared, spec, weights=options.weights)
        show(calibration_text(calibration, price=options.price))


def plan_existing_scores(options: argparse.Namespace, spec: ClusterSpec) -> None:
    """Print what objects would do with scores that exist. Raises PlanError without --objects."""
    definition = read_definition(options)
    if definition is None:
        raise PlanError("--weights is missing: pass weights, or --objects if INPUT holds scores")
    if options.measure:
        raise PlanError("--measure needs --weights: it computes blocks of a segmentation")
    shared = {"level", "time", "axes", "voxel_size_um", "block", "format", "overwrite", "retries"}
    for option in words_of(read_options(SegmentOptions, options), without=shared):
        raise PlanError(f"{option} is for a segmentation: pass --weights too")

    from pipeline.objects.preparation.memory import check_room
    from pipeline.objects.preparation.prepare import prepare_objects

    parameters = read_options(ObjectsOptions, options)
    prepared = prepare_objects(parameters.request(scores=options.input, output=options.output))
    check_room(prepared)
    check_memory(prepared, spec)
    if options.json:
        print(json.dumps(objects_plan_json(prepared), indent=2))
    else:
        show(objects_plan_text(prepared, threads=spec.threads_per_worker))


def planned_objects(
    options: argparse.Namespace, prepared: Prepared, spec: ClusterSpec
) -> PreparedObjects | None:
    """Return the plan of the objects of a segmentation, if it finds any."""
    definition = read_definition(options)
    if definition is None:
        return None
    from ..segmentation.objects import planned_objects

    found = planned_objects(definition, prepared)
    check_memory(found, spec)
    return found


def check_memory(prepared: PreparedObjects, spec: ClusterSpec) -> None:
    """Raise PlanError if a worker of the cluster cannot hold its blocks, where this is known."""
    from deploy.clusters.worker_memory import worker_memory_bytes
    from pipeline.objects.preparation.memory import check_worker

    memory_bytes = worker_memory_bytes(spec)
    check_worker(prepared, threads=spec.threads_per_worker, memory_bytes=memory_bytes)


def check_price(options: argparse.Namespace) -> None:
    """Raise PlanError for a price without a measurement, or below 0."""
    if options.price is not None and not options.measure:
        raise PlanError("--price needs --measure: the time is measured first")
    if options.price is not None and not options.price >= 0:
        raise PlanError(f"--price {options.price:g}: expected 0 or more")


def measured(prepared: Prepared, spec: ClusterSpec, *, weights: str) -> Calibration:
    """Compute some blocks on the cluster. Raises kinds of OvertileError, RunError."""
    from deploy import open_cluster
    from pipeline.segmentation.calibration import calibrate
    from pipeline.segmentation.room import fit_to_workers

    from ..preflight.checks import check_before_start

    say("measuring: starting the cluster")
    began = time.monotonic()
    with open_cluster(spec, notify=say) as client:
        prepared = fit_to_workers(prepared, client)
        check_before_start(client, prepared, weights=weights, notify=say)
        say(f"measuring: computing some blocks; dashboard: {client.dashboard_link}")
        return calibrate(prepared, client, started_s=time.monotonic() - began)
