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

    def mean(runs: Mapping[str, Any], figure: str) -> str:
        values = [run["tta none"][figure] for run in runs.values()]
        text = f"{statistics.mean(values):.4f}"
        return text if len(values) < 2 else f"{text} ({min(values):.4f}–{max(values):.4f})"

    return table(
        ("network, steps: variant", "seeds", "pixel error", "adapted Rand error, thinned", "V-Rand",
         "seconds"),
        *(
            (name, str(len(case["seeds"])),
             *(mean(case["seeds"], figure)
               for figure in ("pixel_error", "adapted_rand_error", "v_rand")),
             f"{statistics.mean(run['seconds'] for run in case['seeds'].values()):.0f}")
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
