"""``overtile plan``: shows what segment would do and cost."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

from pipeline.base.errors import PlanError

from ..options.cluster import ClusterOptions
from ..options.segment import SegmentFiles, SegmentOptions
from ..text.terminal import say
from .arguments import add_options, read_options

if TYPE_CHECKING:
    from deploy import ClusterSpec
    from pipeline.segmentation.calibration import Calibration
    from pipeline.segmentation.prepare import Prepared

EXAMPLE = "overtile plan raw.zarr out.zarr --weights w.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile plan``: those of segment."""
    add_options(parser, SegmentFiles, SegmentOptions, ClusterOptions)
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
    """Print what segment would do."""
    from pipeline.segmentation.prepare import prepare

    from ..text.calibration import calibration_text
    from ..text.plan import plan_json, plan_text

    parameters = read_options(SegmentOptions, options)
    spec = read_options(ClusterOptions, options).spec()  # raises what segment would raise
    check_price(options)
    request = parameters.request(input=options.input, output=options.output)
    prepared = prepare(request, parameters.predictor(options.weights))
    if options.json:
        plan = plan_json(prepared)
        if options.shard:
            plan["share"] = {"shard": options.shard, "blocks": prepared.computed_blocks}
        if options.measure:
            plan["measured"] = measured(prepared, spec, weights=options.weights).to_json()
        print(json.dumps(plan, indent=2))
        return
    print(plan_text(prepared))
    if options.shard:
        print(f"shard {options.shard} computes {prepared.computed_blocks:,} of these blocks")
    if options.measure:
        found = measured(prepared, spec, weights=options.weights)
        print(calibration_text(found, price=options.price))


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

    from ..preflight.checks import check_before_start

    say("measuring: starting the cluster")
    began = time.monotonic()
    with open_cluster(spec, notify=say) as client:
        check_before_start(client, prepared, weights=weights, notify=say)
        say(f"measuring: computing some blocks; dashboard: {client.dashboard_link}")
        return calibrate(prepared, client, started_s=time.monotonic() - began)
