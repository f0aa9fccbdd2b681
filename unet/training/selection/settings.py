"""The settings of a recipe that choose among validations: metric, patience, kept weights."""

from __future__ import annotations

from pipeline.base.errors import TrainingError

from ...recipe.training_config import Metric, Recipe
from ...samples.rules.registry import outputs_of
from .metric import METRICS


def given_metrics(recipe: Recipe) -> tuple[Metric, ...]:
    """Return the metrics that a validation gives, the default first.

    Mean IoU counts a rare class (a membrane) as much as a common one, unlike the pixel error, and
    is what an evaluation reports. The loss is smoother, but rises where a network becomes too
    confident while its classes still improve. Of outputs that are not classes it is the default: no
    threshold is known by which objects will be found, and there is no background.
    """
    names = tuple(METRICS)
    if outputs_of(recipe.labels, dims=recipe.network.dims).has_classes:
        return names
    return ("loss", *(name for name in names if name not in ("loss", "foreground_dice")))


def metric_of(recipe: Recipe) -> Metric:
    """Return the metric that chooses the best validation of a training."""
    return recipe.training.metric or given_metrics(recipe)[0]


def check_selection(recipe: Recipe, *, validates: bool) -> None:
    """Raise TrainingError for settings that need a validation, or another one."""
    training = recipe.training
    given = given_metrics(recipe)
    if training.metric is not None and training.metric not in given:
        raise TrainingError(
            f"metric ({training.metric}): a validation of this network gives {', '.join(given)}; "
            "choose one of these"
        )
    if validates:
        return
    for name, value, needs in (
        ("metric", training.metric, training.metric is not None),
        ("patience", training.patience, training.patience is not None),
        ("kept_weights", training.kept_weights, training.kept_weights == "best"),
    ):
        if needs:
            raise TrainingError(
                f"{name} ({value}): nothing is held out to validate on; hold slices out with "
                f"--validation-slices, or remove {name}"
            )
