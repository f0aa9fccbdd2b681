"""An evaluation, kept with the result that was evaluated and shown in its report."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.base.errors import OvertileError
from pipeline.evaluation.result import Evaluation
from pipeline.ledger.kept_scores import keep_scores

from .scores import score_section


def keep_evaluation(evaluation: Evaluation) -> Iterator[str]:
    """Add the scores to the reports of the result; yield a line per report, or why there is none.

    Of an image that overtile did not make, nothing is kept.
    """
    figures = evaluation.to_json()
    identity = {name: figures[name] for name in ("truth", "box", "settings")}
    try:
        reports = keep_scores(
            evaluation.plan.request.prediction, score_section(evaluation), identity=identity,
            figures=figures,
        )  # fmt: skip
    except OvertileError as error:  # such as a result of another user: the figures are printed
        yield f"note: the report does not show these scores ({error})"
        return
    for report in reports:
        yield f"report: {report}"
