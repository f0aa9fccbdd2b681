"""The Prefect flow ``evaluate-volume``: the same figures as in the shell, as an artifact."""

from __future__ import annotations

import logging
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from deploy import open_cluster
from pipeline.evaluation.plan import plan_evaluation
from pipeline.evaluation.run import evaluate

from .options.cluster import ClusterOptions
from .options.evaluate import EvaluateOptions
from .prefect.artifacts import link_dashboard
from .prefect.run_names import named_after
from .preflight.checks import check_before_start
from .text.json_file import check_json_place, write_json
from .text.scores import evaluation_markdown, summary


@flow(name="evaluate-volume", flow_run_name=named_after("evaluate", "prediction"))
def evaluate_volume(
    prediction: str,
    truth: str,
    options: EvaluateOptions = EvaluateOptions(),  # noqa: B008  frozen by use: pydantic copies it
    cluster: ClusterOptions = ClusterOptions(),  # noqa: B008
    json_file: str | None = None,
) -> dict[str, Any]:
    """Score a prediction against the truth.

    Args:
        prediction: Output of overtile, or an image of classes, ids or scores: a path, s3://…
            or https://…
        truth: Classes or object ids of the same shape, in any input format
        options: How to compare
        cluster: Where the Dask workers are
        json_file: File for every figure and setting, as JSON; relative paths start at the
            project's folder
    """
    spec = cluster.spec()
    check_json_place(json_file)
    plan = plan_evaluation(options.request(prediction=prediction, truth=truth))
    logging.getLogger("distributed").setLevel(logging.ERROR)  # Prefect prints what all log
    logger = get_run_logger()
    with open_cluster(spec) as client:
        logger.info("Dask dashboard: %s", client.dashboard_link)
        link_dashboard(client.dashboard_link)
        check_before_start(client, notify=logger.warning)
        evaluation = evaluate(plan, client)
    figures = evaluation.to_json()
    write_json(json_file, figures)
    create_markdown_artifact(
        evaluation_markdown(evaluation), key="evaluation", description=summary(evaluation)
    )
    return figures
