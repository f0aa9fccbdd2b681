"""``overtile finish``: completes an output that runs of ``overtile segment --shard i/N`` made."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..options.cluster import ClusterOptions
from ..options.objects import ObjectDefinition, WithObjects
from ..options.segment import FinishFiles, SegmentOptions
from ..signals.drain import drain_on_signal
from ..signals.stop import nothing_begun
from .arguments import add_options, read_options
from .object_arguments import read_definition, read_segment_options

if TYPE_CHECKING:
    from pipeline.ledger.progress import Progress

MOST_COMMANDS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile finish``: those of segment that identify the job."""
    parser.description = (
        "Complete an output that runs of overtile segment --shard i/N made: check that all blocks "
        "are done, build the pyramid, write the report. Takes the arguments of segment; --cluster "
        "sets where the pyramid is computed."
    )
    add_options(
        parser, FinishFiles, SegmentOptions, WithObjects, ObjectDefinition, ClusterOptions,
        without=("overwrite", "shard"),
    )  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Complete an output. Raises RunError if blocks of a share are missing."""
    with drain_on_signal() as drain:
        with nothing_begun():
            from pipeline.base.errors import RunError
            from pipeline.ledger.shares import incomplete_shares
            from pipeline.segmentation.prepare import prepare

            from ..segmentation.run import run_finish

        parameters, objects = read_segment_options(options), read_definition(options)
        spec = read_options(ClusterOptions, options).spec()
        request = parameters.request(input=options.input, output=options.output)
        prepared = prepare(request, parameters.predictor(options.weights), finishing=True)
        if lacking := incomplete_shares(prepared.request.output):
            raise RunError(advice(lacking, arguments=options.given))
        run_finish(prepared, weights=options.weights, spec=spec, objects=objects, drain=drain)


def advice(lacking: Sequence[Progress], *, arguments: Sequence[str]) -> str:
    """Return, in one line, which blocks are missing and the commands that compute them.

    arguments: those of ``overtile finish``.
    """
    from pipeline.base.redaction import command_text
    from pipeline.ledger.shares import shares_text

    words = ["overtile", "segment", *arguments]
    end = words.index("--") if "--" in words else len(words)  # of the options
    commands = [
        command_text((*words[:end], "--shard", f"{state.number}/{state.of}", *words[end:]))
        for state in lacking[:MOST_COMMANDS]
    ]
    more = f" … and so on to --shard {lacking[-1].number}/{lacking[-1].of}"
    rest = more if len(lacking) > MOST_COMMANDS else ""
    missing = shares_text(lacking)
    return f"not finished: {missing}; run {'; '.join(commands)}{rest}; then finish again"
