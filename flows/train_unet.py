"""The Prefect flow ``train-unet``: the same training as in the shell, shown in Prefect's UI."""

from __future__ import annotations

import logging

from prefect import flow, get_run_logger

from deploy import open_cluster

from .options.train import LabelledVolume, TrainOptions, training_cluster
from .prefect.artifacts import link_dashboard
from .prefect.form import DEFAULTS, Cluster, HowToTrain, cluster_of, options_of
from .prefect.run_names import named_after
from .prefect.training_artifacts import training_in_prefect
from .prefect.without_credentials import without_credentials
from .preflight.checks import check_before_start
from .text.training import TerminalLines, start_lines
from .text.training_end import done_text, end_lines
from .training.prepare import prepare_training
from .training.run import rank_limits, train_interruptibly

LEAVE_S = 15.0
"""Prefect kills a cancelled flow run after 30 s: the ranks must have saved by then."""


@without_credentials
@flow(name="train-unet", flow_run_name=named_after("train-unet"))
def train_unet(
    volumes: list[LabelledVolume],
    out: str,
    cluster: Cluster = "local",
    options: HowToTrain = DEFAULTS,
) -> str:
    """Train a U-Net on labelled volumes; return the path of its weights.

    A relative path starts at the folder in which the flow runs. For a deployment that is the
    project's folder on the machine of the Prefect worker, not where the run was requested.

    Args:
        volumes: The images to learn from, each with its labels.
        out: Weights file to create; checkpoints, log and pictures go beside it, into
            WEIGHTS-without-suffix.training. For example /data/membranes.safetensors.
        cluster: Where to train: this machine (local), its GPUs (cuda), Slurm jobs, or a profile.
            Advanced: number of workers or jobs, partition and more.
        options: The defaults suit a first training. Advanced: number of steps, what the labels
            mean, slices for validation and more.
    """
    how = options_of(options, TrainOptions)
    spec = training_cluster(cluster_of(cluster), ranks=how.ranks)
    logger = get_run_logger()
    logger.info("reading the metadata of the volumes and their labels")
    prepared = prepare_training(volumes, out, how)
    logging.getLogger("distributed").setLevel(logging.ERROR)  # Prefect prints all logs
    if prepared.is_done:
        logger.info(done_text(prepared))
        return str(prepared.out)
    for line in start_lines(prepared):
        logger.info(line)
    logger.info("starting workers")
    with open_cluster(spec, notify=logger.info) as client:
        logger.info("Dask dashboard: %s", client.dashboard_link)
        link_dashboard(client.dashboard_link)
        check_before_start(client, notify=logger.warning)
        with training_in_prefect(prepared.recipe.class_names or ()) as artifacts:
            lines = TerminalLines(logger.info)
            end = train_interruptibly(
                prepared, client, listeners=[lines, artifacts],
                limits=rank_limits(spec, ranks=prepared.ranks, leave_s=LEAVE_S),
            )  # fmt: skip
    for line in end_lines(end, prepared):
        logger.info(line)
    return str(prepared.out)
