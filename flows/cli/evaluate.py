"""``overtile evaluate``: scores a prediction against the truth."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from pipeline.base.errors import RunStoppedError

from ..options.cluster import ClusterOptions
from ..options.evaluate import EvaluateFiles, EvaluateOptions
from ..signals.stop import nothing_begun
from ..text.json_file import check_json_place, write_json
from ..text.terminal import say, show
from .arguments import add_options, read_options
from .local_workers import expect_workers

PROGRESS_EVERY_S = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile evaluate``."""
    add_options(parser, EvaluateFiles, EvaluateOptions, ClusterOptions)
    parser.add_argument(
        "--json", metavar="FILE", help="JSON file to write, with all figures and settings"
    )


def run(options: argparse.Namespace) -> None:
    """Score a prediction and print the figures."""
    with nothing_begun():
        expect_workers(options)
        from deploy import open_cluster
        from pipeline.evaluation.plan import plan_evaluation
        from pipeline.evaluation.run import evaluate as run

        from ..preflight.checks import check_before_start
        from ..text.kept_evaluation import keep_evaluation
        from ..text.scores import evaluation_text

    parameters = read_options(EvaluateOptions, options)
    spec = read_options(ClusterOptions, options).spec()
    check_json_place(options.json)
    plan = plan_evaluation(parameters.request(prediction=options.prediction, truth=options.truth))
    try:
        with open_cluster(spec, notify=say) as client:
            check_before_start(client, notify=say)
            evaluation = run(plan, client, watch=_progress())
    except KeyboardInterrupt:
        raise RunStoppedError("stopped: nothing was written") from None
    write_json(options.json, evaluation.to_json())
    show(evaluation_text(evaluation))
    for line in keep_evaluation(evaluation):
        say(line)


def _progress() -> Callable[[str, int, int], None]:
    """Return a function that prints the progress every few seconds."""
    last = time.monotonic()

    def watch(what: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_EVERY_S:
            last = time.monotonic()
            say(f"{what}: {done}/{total}")

    return watch
