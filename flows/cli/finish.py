"""``overtile finish``: ends an output that runs of ``overtile segment --shard i/N`` made."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..signals.drain import drain_on_signal
from . import segment as cli_segment

if TYPE_CHECKING:
    from pipeline.ledger.ledger import ShareState

COMMANDS_TOLD = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile finish``: those that the shares had."""
    parser.description = (
        "End an output that runs of overtile segment --shard i/N made: look whether all of it is "
        "there, build the pyramid, write the report. Takes the arguments that segment had; "
        "--cluster says where the pyramid is computed."
    )
    cli_segment.add_job_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Finish an output, or raise RunError where shares miss blocks."""
    with drain_on_signal() as drain:
        from pipeline.base.errors import RunError
        from pipeline.ledger.shares import incomplete_shares
        from pipeline.segmentation.prepare import prepare

        from ..segmentation.run import run_finish

        parameters = cli_segment.segment_options(options)
        spec = cli_segment.cluster_spec(options)
        request = parameters.request(input=options.input, output=options.output)
        prepared = prepare(request, parameters.predictor(options.weights), finishing=True)
        if lacking := incomplete_shares(prepared.request.output):
            raise RunError(advice(lacking, arguments=options.given))
        run_finish(prepared, weights=options.weights, spec=spec, drain=drain)


def advice(lacking: Sequence[ShareState], *, arguments: Sequence[str]) -> str:
    """Return, as one line, what is missing and which commands do it.

    arguments: what finish was given.
    """
    from pipeline.ledger.shares import told

    words = shlex.join(arguments)
    commands = [
        f"overtile segment {words} --shard {state.number}/{state.of}"
        for state in lacking[:COMMANDS_TOLD]
    ]
    more = f" … and so on to --shard {lacking[-1].number}/{lacking[-1].of}"
    rest = more if len(lacking) > COMMANDS_TOLD else ""
    return f"not finished: {told(lacking)}; run {'; '.join(commands)}{rest}; then finish again"
