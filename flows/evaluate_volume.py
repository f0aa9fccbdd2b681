"""The Prefect flow ``evaluate-volume``: the same figures as in the shell, as an artifact."""

from __future__ import annotations

import logging
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from deploy import open_cluster
from pipeline.evaluation.plan import plan_evaluation
from pipeline.evaluation.run import evaluate

from .options.evaluate import EvaluateOptions
from .prefect.artifacts import link_dashboard
from .prefect.form import DEFAULTS, Cluster, HowToEvaluate, cluster_of, options_of
from .prefect.run_names import named_after
from .prefect.without_credentials import Place, without_credentials
from .preflight.checks import check_before_start
from .text.json_file import check_json_place, write_json
from .text.kept_evaluation import keep_evaluation
from .text.scores import evaluation_markdown, summary


@without_credentials
@flow(name="evaluate-volume", flow_run_name=named_after("evaluate-volume"))
def evaluate_volume(
    prediction: Place,
    truth: Place,
    json_file: str | None = None,
    cluster: Cluster = "local",
    options: HowToEvaluate = DEFAULTS,
) -> dict[str, Any]:
    """Score a prediction against the truth.

    Args:
        prediction: Output of overtile, or an image of classes, ids or scores: a path or URI.
        truth: Classes or object ids of the same voxels or a part of them, in any format.
        json_file: A file for every figure and setting, as JSON (default: none). Relative paths
            start at the folder in which overtile prefect up was called.
        cluster: Where to compute: this machine (local), its GPUs (cuda), Slurm jobs, or a profile.
            Advanced: number of workers or jobs, partition and more.
        options: The defaults compare classes with classes. Advanced: scores, objects, slices and
            more.
    """
    how = options_of(options, EvaluateOptions)
    spec = cluster_of(cluster).spec()
    check_json_place(json_file)
    logger = get_run_logger()
    logger.info("reading the metadata of both images, and planning")
    plan = plan_evaluation(how.request(prediction=prediction, truth=truth))
    logging.getLogger("distributed").setLevel(logging.ERROR)  # Prefect prints what all log
    logger.info("starting workers")
    with open_cluster(spec, notify=logger.info) as client:
        logger.info("Dask dashboard: %s", client.dashboard_link)
        link_dashboard(client.dashboard_link)
        check_before_start(client, notify=logger.warning)
        logger.info("comparing the images, block by block")
        evaluation = evaluate(plan, client)
    figures = evaluation.to_json()
    write_json(json_file, figures)
    for line in keep_evaluation(evaluation):
        logger.info(line)
    create_markdown_artifact(
        evaluation_markdown(evaluation), key="evaluation", description=summary(evaluation)
    )
    return figures
