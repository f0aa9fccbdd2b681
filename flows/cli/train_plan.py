"""``overtile train --plan``: shows what a training would learn from and cost; trains nothing."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pipeline.base.errors import PlanError, RunStoppedError

from ..options.cluster import ClusterOptions
from ..options.declared import words_of
from ..options.train import TrainingPlanOptions, training_cluster
from ..text.terminal import say, show
from .arguments import read_options
from .training_arguments import read_training

MAKER = "overtile train --plan"
"""Stated in the picture: a picture of an earlier plan may be replaced."""


def is_plan(options: argparse.Namespace) -> bool:
    """Return whether a plan was requested. Raises PlanError for options that need one."""
    wanted = read_options(TrainingPlanOptions, options)
    if not wanted.plan:
        given = [*words_of(wanted), *(["--json"] if options.json else [])]
        for option in given[:1]:
            raise PlanError(f"{option} needs --plan: it shows a plan and trains nothing")
    return wanted.plan


def run_plan(options: argparse.Namespace) -> None:
    """Measure some steps, print the plan and write the picture; nothing else is written."""
    try:
        _run(options)
    except KeyboardInterrupt:
        raise RunStoppedError("stopped: nothing was written") from None


def _run(options: argparse.Namespace) -> None:
    from deploy import open_cluster

    from ..preflight.checks import check_before_start
    from ..text.picture_file import write_picture
    from ..text.training_end import done_text
    from ..text.training_plan import (
        channel_names,
        patches_picture,
        training_plan_json,
        training_plan_text,
    )
    from ..training.plan import plan_on_cluster
    from ..training.prepare import prepare_training

    volumes, parameters = read_training(options)
    spec = training_cluster(read_options(ClusterOptions, options), ranks=parameters.ranks)
    resumed = parameters.model_copy(update={"resume": True})  # a plan overwrites no training
    prepared = prepare_training(volumes, options.out, resumed)
    picture = _picture_place(options, prepared.out)
    if prepared.is_done:
        say(done_text(prepared))
        return
    for note in prepared.notes:
        say(f"note: {note}")
    say("measuring: starting the workers")
    with open_cluster(spec, notify=say) as client:
        check_before_start(client, notify=say)
        say(f"measuring: some steps; dashboard: {client.dashboard_link}")
        plan = plan_on_cluster(prepared, client)
    write_picture(picture, patches_picture(plan.patches, channel_names(prepared)), maker=MAKER)
    if options.json:
        plan_json = {**training_plan_json(prepared, plan), "picture": str(picture)}
        print(json.dumps(plan_json, indent=2))
    else:
        show(training_plan_text(prepared, plan))
        say(f"the first patches: {picture}")


def _picture_place(options: argparse.Namespace, out: Path) -> Path:
    """Return the path of the picture. Raises OutputError where it cannot be written."""
    from ..text.picture_file import check_picture_place

    place = options.plan_picture
    if place is None:
        place = str(out.with_name(f"{out.stem}.plan.png"))
    files = (*options.volume, *options.labels, *options.validation_volume)
    for source in (*files, *options.validation_labels):
        path = check_picture_place(place, source=source, maker=MAKER)
    return path
