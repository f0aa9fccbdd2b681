"""``overtile plan``: what segment would do and cost."""

from __future__ import annotations

import argparse
import json

from . import segment as cli_segment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile plan``: those of segment."""
    cli_segment.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def run(options: argparse.Namespace) -> None:
    """Print what segment would do."""
    from pipeline.segmentation.prepare import prepare

    from ..text.plan import plan_json, plan_text

    parameters = cli_segment.segment_options(options, shard=options.shard)
    cli_segment.cluster_spec(options)  # what segment would refuse
    request = parameters.request(input=options.input, output=options.output)
    prepared = prepare(request, parameters.predictor(options.weights))
    if options.json:
        told = plan_json(prepared)
        if options.shard:
            told["share"] = {"shard": options.shard, "blocks": prepared.blocks}
        print(json.dumps(told, indent=2))
        return
    print(plan_text(prepared))
    if options.shard:
        print(f"of it, shard {options.shard} does {prepared.blocks:,} blocks")
