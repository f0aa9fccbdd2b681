"""The laws of the choice among validations, against plain computations over all of them."""

from __future__ import annotations

import json
import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import TrainingError
from unet.recipe.training_config import PRESETS, LabelConfig, Metric, Recipe, TrainingConfig
from unet.training.selection.metric import METRICS
from unet.training.selection.selection import Selection
from unet.training.selection.settings import check_selection, metric_of

FEW = st.sampled_from([0.1, 0.5, 0.5, 0.9, math.nan])
VALUES = st.lists(FEW, max_size=9)


def scores_at(step, value):
    """Return scores whose every metric is this value."""
    return {
        "step": step, "loss": value, "pixel_error": value, "mean_iou": value, "iou": [value] * 2,
        "dice": [value] * 2,
    }  # fmt: skip


def folded(values, metric, *, since=0, selection=None, first=1):
    selection = selection or Selection(metric=metric)
    for step, value in enumerate(values, start=first):
        selection = selection.after(scores_at(step, value), since=since if step > since else 0)
    return selection


def plain(values, metric):
    """Return the step of the best value: NaN never wins, of equal ones the first does."""
    known = [(value, step) for step, value in enumerate(values, 1) if not math.isnan(value)]
    if not known:
        return None
    sign = -1 if METRICS[metric].higher_is_better else 1
    return min((sign * value, step) for value, step in known)[1]


@given(values=VALUES, metric=st.sampled_from(list(METRICS)))
def test_the_best_is_the_first_of_the_best_scores_and_never_nan(values, metric):
    selection = folded(values, metric)
    best = plain(values, metric)
    assert selection.step == best
    assert selection.without_better == len(values) - (best or 0)
    assert selection.score == (None if best is None else values[best - 1])


@given(values=VALUES, cut=st.integers(0, 9), metric=st.sampled_from(list(METRICS)))
def test_a_selection_that_was_saved_and_read_ends_the_same(values, cut, metric):
    half = folded(values[:cut], metric)
    record = json.loads(json.dumps({"selection": half.to_record()}))
    read = Selection.from_record(record, metric=metric)
    rest = folded(values[cut:], metric, selection=read, first=len(values[:cut]) + 1)
    whole = folded(values, metric)
    assert (rest.step, rest.without_better, rest.validated_at) == (
        whole.step, whole.without_better, whole.validated_at
    )  # fmt: skip


@given(values=VALUES, since=st.integers(0, 9), patience=st.integers(1, 4))
def test_patience_counts_the_validations_of_the_current_cycle_only(values, since, patience):
    selection = folded(values, "mean_iou", since=since)
    best = plain(values, "mean_iou") or 0
    later = [step for step in range(1, len(values) + 1) if step > max(best, since)]
    in_cycle = len(values) > since
    assert selection.has_run_out(patience, since=since) == (in_cycle and len(later) >= patience)
    assert not selection.has_run_out(None, since=since)


def test_every_metric_of_the_recipe_is_read_by_its_formula():
    assert set(METRICS) == set(get_args(Metric))
    scores = {
        "loss": 0.7, "pixel_error": 0.2, "mean_iou": 0.5, "iou": (0.1, 0.9),
        "dice": (0.2, 0.4, 0.9),
    }  # fmt: skip
    found = {name: metric.of(scores) for name, metric in METRICS.items()}
    assert found == pytest.approx({
        "loss": 0.7, "pixel_error": 0.2, "mean_iou": 0.5, "mean_dice": (0.2 + 0.4 + 0.9) / 3,
        "foreground_dice": (0.4 + 0.9) / 2,
    })  # fmt: skip
    lower = {name for name, metric in METRICS.items() if not metric.higher_is_better}
    assert lower == {"loss", "pixel_error"}


@pytest.mark.parametrize(
    ("setting", "value"), [("metric", "loss"), ("patience", 3), ("kept_weights", "best")]
)
def test_a_setting_that_needs_a_validation_is_refused_without_one(setting, value):
    recipe = Recipe(training=TrainingConfig(**{setting: value}))
    said = (
        rf"^{setting} \({value}\): nothing is held out to validate on; hold slices out with "
        rf"--validation-slices, or remove {setting}$"
    )
    with pytest.raises(TrainingError, match=said):
        check_selection(recipe, validates=False)
    check_selection(recipe, validates=True)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_needs_no_validation(preset):
    recipe = Recipe(training=PRESETS[preset])
    check_selection(recipe, validates=False)
    assert metric_of(recipe) == "mean_iou"


@pytest.mark.parametrize("rule", ["affinities", "distance", "centre"])
def test_outputs_that_are_not_classes_are_chosen_by_their_loss_and_have_no_foreground(rule):
    labels = LabelConfig(rule=rule)
    assert metric_of(Recipe(labels=labels)) == "loss"
    recipe = Recipe(labels=labels, training=TrainingConfig(metric="foreground_dice"))
    said = (
        r"^metric \(foreground_dice\): a validation of this network gives loss, mean_iou, "
        r"mean_dice, pixel_error; choose one of these$"
    )
    with pytest.raises(TrainingError, match=said):
        check_selection(recipe, validates=True)
