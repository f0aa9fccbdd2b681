"""``overtile train``: trains a U-Net."""

from __future__ import annotations

import argparse
import re

from pipeline.base.errors import RunDrainedError, RunError, RunStoppedError
from pipeline.base.text import counted

from ..options.cluster import ClusterOptions
from ..options.train import training_cluster
from ..signals.drain import Drain, drain_on_signal
from ..signals.stop import DrainedBeforeRun, nothing_begun
from ..text.terminal import say
from .arguments import read_options
from .local_workers import expect_workers
from .train_plan import is_plan, run_plan
from .training_arguments import add_plan, add_training, read_training

_AGAIN = re.compile(r"\b(start|run) the (same command|run|command) again to resume\b")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile train``."""
    add_training(parser)
    add_plan(parser)


def run(options: argparse.Namespace) -> None:
    """Train and show the progress, or show the plan of a training."""
    if is_plan(options):
        run_plan(options)
        return
    with drain_on_signal("the ranks finish their step and save a checkpoint") as drain:
        try:
            _run(options, drain)
        except KeyboardInterrupt as stop:  # or SIGTERM; the ranks have saved a checkpoint
            from unet.training.checks import output_paths
            from unet.training.run import stopped_text

            _, directory = output_paths(options.out)
            kind = RunDrainedError if isinstance(stop, DrainedBeforeRun) else RunStoppedError
            raise kind(stopped_text(directory)) from None
        except RunError as error:
            raise type(error)(with_resume(str(error))) from error


def with_resume(text: str) -> str:
    """Return an error of a run with the advice of a training, which resumes only on request.

    >>> with_resume("the scheduler was lost: start the run again to resume")
    'the scheduler was lost: resume with the same command and --resume'
    """
    return _AGAIN.sub("resume with the same command and --resume", text)


def _run(options: argparse.Namespace, drain: Drain) -> None:
    with nothing_begun():
        expect_workers(options, with_torch=True)
        from deploy import open_cluster

        from ..preflight.checks import check_before_start
        from ..text.training import shown_on_terminal, start_lines
        from ..text.training_end import done_text, end_lines
        from ..training.prepare import prepare_training
        from ..training.run import rank_limits, train_interruptibly

    volumes, parameters = read_training(options)
    cluster = read_options(ClusterOptions, options)
    spec = training_cluster(cluster, ranks=parameters.ranks)
    prepared = prepare_training(volumes, options.out, parameters)
    if prepared.is_done:
        say(done_text(prepared))
        return
    for line in start_lines(prepared):
        say(line)
    with open_cluster(spec, notify=say) as client:
        say(f"dashboard: {client.dashboard_link}")
        check_before_start(client, notify=say)
        with shown_on_terminal() as listener:
            end = train_interruptibly(
                prepared, client, listeners=[listener], drain=drain,
                limits=rank_limits(spec, ranks=parameters.ranks),
            )  # fmt: skip
    for line in end_lines(end, prepared):
        say(line)
    say(f"done: {counted(end.step, 'step')}; weights: {prepared.out}")
    say(f"log, checkpoints and pictures: {prepared.directory}")
