"""Tables of the docs about trainings."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from .plots import found
from .table import table

STARTS = {
    "not trained": "the weights themselves, not trained",
    "random": "from nothing",
    "weights": "from the weights",
    "frozen": "from the weights, contracting path frozen",
}


def study() -> str:
    """Return the table of what changes the error of a training; means over seeds."""

    def mean(runs: Mapping[str, Any], views: str, figure: str) -> str:
        values = [run[views][figure] for run in runs.values() if views in run]
        text = f"{statistics.mean(values):.4f}" if values else "–"
        return text if len(values) < 2 else f"{text} ({min(values):.4f}–{max(values):.4f})"

    def seconds(runs: Mapping[str, Any]) -> str:
        known = [run["seconds"] for run in runs.values() if run["seconds"] is not None]
        return f"{statistics.mean(known):.0f}" if known else "–"

    figures = ("pixel_error", "adapted_rand_error")
    return table(
        ("network, steps: variant", "pixel error", "adapted Rand error, thinned",
         "pixel error, `--tta full`", "adapted Rand error, `--tta full`", "seconds"),
        *(
            (name,
             *(mean(case["seeds"], views, figure)
               for views in ("tta none", "tta full") for figure in figures),
             seconds(case["seeds"]))
            for name, case in found("training-study")["cases"].items()
        ),
    )  # fmt: skip


def from_weights() -> str:
    """Return the table of the scores from weights and from nothing."""
    cases = found("from-weights")["cases"]
    classes = next(iter(cases.values()))["classes"]
    return table(
        ("training", "steps", "minutes", "pixel error", "mean IoU",
         *(f"IoU of {name}" for name in classes)),
        *(
            (STARTS[name], *_taken(case), *(f"{score:.3f}" for score in
             (case["pixel_error"], case["mean_iou"], *case["iou"])))
            for name, case in cases.items()
        ),
    )  # fmt: skip


def _taken(case: Mapping[str, Any]) -> tuple[str, str]:
    """Return the steps and the minutes of a training; of none, where nothing was learnt."""
    is_trained = case["steps"] > 1
    return (str(case["steps"]), f"{case['seconds'] / 60:.1f}") if is_trained else ("–", "–")


def folds() -> str:
    """Return the table of bodies by cross-validation: of the case that was measured last."""
    *_, case = found("fib25-folds")["cases"].values()

    def row(one: Mapping[str, Any]) -> tuple[str, ...]:
        basins = one["basins_by_majority"]
        return (
            f"{one['bodies_of_1000_voxels']}; {one['bodies_of_90_percent']}; "
            f"{100 * one['largest_body']:.0f} %",
            f"{one['objects']:,}; {one['objects_of_90_percent']}",
            f"{one['adapted_rand_error']:.3f}",
            f"{one['voi']:.2f} ({one['voi_split']:.2f}, {one['voi_merge']:.2f})",
            f"{one['at_own_best']['adapted_rand_error']:.3f}; {one['at_own_best']['voi']:.2f}",
            f"{basins['adapted_rand_error']:.3f}",
            f"{one['as_one']:.2f}",
        )

    return table(
        ("place", "bodies of 1000 voxels; that have 90 % of all; share of the largest",
         "objects; that have 90 %", "adapted Rand error",
         "variation of information, bits (split, merge)",
         "with the options that are best here: adapted Rand error; variation",
         "basins by majority: adapted Rand error", "one object for all: adapted Rand error"),
        *((place, *row(one)) for place, one in case["places"].items()),
    )  # fmt: skip


def fold_means() -> str:
    """Return the table of the means over the three places on which nothing was chosen."""
    cases = found("fib25-folds")["cases"]

    def row(name: str, case: Mapping[str, Any]) -> tuple[str, ...]:
        means = case["means without low-z-low-y"]
        options = case["options of all places"]
        return (
            name, f"{options['depth']:g}; {options['merge_threshold']:g}",
            f"{means['adapted_rand_error']:.3f}",
            f"{means['voi']:.2f} ({means['voi_split']:.2f}, {means['voi_merge']:.2f})",
        )  # fmt: skip

    return table(
        ("recipe, steps, views", "depth; merge threshold that suit all places best",
         "adapted Rand error", "variation of information, bits (split, merge)"),
        *(row(name, case) for name, case in cases.items()),
    )  # fmt: skip


def corrections() -> str:
    """Return the table of the scores after each round of corrections."""
    rounds = found("corrections_loop")["rounds"]
    names = [name for name in rounds[0] if name not in ("round", "painted")]
    return table(
        ("round", "voxels painted", *(name.replace("_", " ") for name in names)),
        *(
            (str(one["round"]), f"{one['painted']:,}", *(_beside(one, name) for name in names))
            for one in rounds
        ),
    )  # fmt: skip


def _beside(one: Mapping[str, Any], name: str) -> str:
    """Return a figure, in brackets that of the same steps without corrections."""
    beside = one.get("control")
    return f"{one[name]:.3f}" + (f" ({beside[name]:.3f})" if beside else "")
