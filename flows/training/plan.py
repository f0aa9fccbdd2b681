"""A training's plan, measured on the workers of a cluster."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from deploy import run_ranks
from pipeline.base.workers import workers_of
from unet.training.plan.plan import TrainingPlan, plan_training
from unet.training.prepare import PreparedTraining

if TYPE_CHECKING:
    from deploy import Client


def plan_on_cluster(prepared: PreparedTraining, client: Client) -> TrainingPlan:
    """Measure the volumes and some steps on the ranks that the training would have.

    Nothing is written. Raises kinds of OvertileError, RunError, as the training would.
    """
    return plan_training(
        replace(prepared, volumes=prepared.volumes.measured(client)),
        partial(run_ranks, client=client),
        ranks=prepared.ranks or max(1, len(workers_of(client))),
    )
