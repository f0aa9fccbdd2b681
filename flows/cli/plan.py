"""``overtile plan``: shows what segment would do and cost."""

from __future__ import annotations

import argparse
import json

from ..options.cluster import ClusterOptions
from ..options.segment import SegmentFiles, SegmentOptions
from .arguments import add_options, read_options

EXAMPLE = "overtile plan raw.zarr out.zarr --weights w.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile plan``: those of segment."""
    add_options(parser, SegmentFiles, SegmentOptions, ClusterOptions)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def run(options: argparse.Namespace) -> None:
    """Print what segment would do."""
    from pipeline.segmentation.prepare import prepare

    from ..text.plan import plan_json, plan_text

    parameters = read_options(SegmentOptions, options)
    read_options(ClusterOptions, options).spec()  # raises what segment would raise
    request = parameters.request(input=options.input, output=options.output)
    prepared = prepare(request, parameters.predictor(options.weights))
    if options.json:
        plan = plan_json(prepared)
        if options.shard:
            plan["share"] = {"shard": options.shard, "blocks": prepared.blocks}
        print(json.dumps(plan, indent=2))
        return
    print(plan_text(prepared))
    if options.shard:
        print(f"shard {options.shard} computes {prepared.blocks:,} of these blocks")
