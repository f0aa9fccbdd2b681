"""A few labelled slices and a few minutes: training from weights against training from nothing.

    python -m benchmarks.from_weights --data VOLUME.zarr [--from NAME] [--slices N] [--minutes M]
        [--rule boundary|foreground] [--validation-slices N] [--cases random,weights,frozen]

VOLUME.zarr holds the arrays ``raw`` (grey values, z y x) and ``labels`` (object ids). Its last
slices validate, and no training reads them. Of the others, N in the middle are labelled; the rest
is unlabelled context. Every case has the same network (that of the weights), preset, seed, patches
and number of steps: as many as take M minutes on this machine, which ten steps from nothing measure
first. The cases follow one another, with one worker that uses all cores. ``not trained`` is the
weights themselves on the validation slices; it is left out if their classes are others than the
rule's.
Prints the validation's scores after the last step and writes them to results/from-weights.json.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from distributed import Client

from deploy import open_cluster
from flows.training.run import train_on_cluster
from pipeline import open_labelled
from pipeline.base.text import aligned_figures
from unet.samples.sampling import Shape
from unet.training.messages import StepsDone
from unet.training.prepare import PreparedTraining, prepare_training
from unet.training.start.weights import StartWeights
from unet.training.suggest import settled_core

from .measuring import at_least_one, digits, keep, some_of

CASES = ("random", "weights", "frozen")
MEASURED_STEPS = 10
UNLABELLED = -1
LEAST_RATE = 1e-12
"""A learning rate with which a step changes nothing: the scores are those of the start."""


@dataclass(frozen=True)
class Setting:
    """What all cases share."""

    folder: Path
    start: StartWeights
    rule: str
    client: Client
    patch: Shape
    """As large as the labelled slices allow."""

    def prepared(self, name: str, *, steps: int, **training: Any) -> PreparedTraining:
        """Return a training from random weights, or from the start's for any other case."""
        network = self.start.info.config.to_dict()
        stated = {} if name != "random" else {"network": {**network, "classes": 2}}
        patch = self.patch[3 - self.start.info.config.dims :]
        settings = {
            "steps": steps, "batch": 1, "patch": patch, "validate_every": 10**6,
            "checkpoint_every": 10**6, "kept_weights": "last",
        }  # fmt: skip
        return prepare_training(
            open_labelled(
                [self.pair("training")],
                validation=[self.pair("validation")],
                normalisation=self.start.normalisation,
            ),
            Path(tempfile.mkdtemp(dir=self.folder), "w.safetensors"),
            config={
                **stated,
                "training": {**settings, **training},
                "labels": {"rule": self.rule, "ignore": UNLABELLED},
            },
            ranks=1,
            start_from=None if name == "random" else self.start,
        )

    def pair(self, part: str) -> tuple[str, str]:
        """Return where the raw volume and the labels of a part are."""
        return str(self.folder / f"{part}-raw.zarr"), str(self.folder / f"{part}-labels.zarr")

    def scored(self, name: str, *, steps: int, **training: Any) -> dict[str, Any]:
        """Train, and return the scores of the last step with the seconds that it took."""
        heard = Speeds()
        begun = time.perf_counter()
        prepared = self.prepared(name, steps=steps, **training)
        end = train_on_cluster(prepared, self.client, listeners=[heard])
        kept = {key: end.scores[key] for key in ("pixel_error", "mean_iou", "iou", "dice", "loss")}
        return {
            **kept, "steps": steps, "seconds": digits(time.perf_counter() - begun),
            "seconds_per_step": digits(heard.seconds_per_step),
            "patch": list(prepared.core), "classes": list(prepared.recipe.class_names or ()),
        }  # fmt: skip


@dataclass
class Speeds:
    """Records the reported speeds."""

    patches_per_s: list[float] = field(default_factory=list)

    def hear(self, message: object) -> None:
        if isinstance(message, StepsDone):
            self.patches_per_s.append(message.patches_per_s)

    @property
    def seconds_per_step(self) -> float:
        """Of steps of one patch; the first report, of a cold start, is left out if others exist."""
        return 1 / statistics.median(self.patches_per_s[1:] or self.patches_per_s)


def write_parts(data: Path, folder: Path, *, slices: int, validation: int) -> dict[str, Any]:
    """Write the volume to learn from, labelled in some slices, and the one to validate on.

    Return which slices are labelled in each.
    """
    source = {name: zarr.open_array(data / name, mode="r") for name in ("raw", "labels")}
    depth, *plane = source["raw"].shape
    split = depth - validation
    first = (split - slices) // 2
    if first < 0:
        raise SystemExit(f"{depth} slices: expected at least {slices} + {validation}")
    sparse = np.full((split, *plane), UNLABELLED, np.int64)
    sparse[first : first + slices] = source["labels"][first : first + slices]
    arrays = {
        "training-raw": source["raw"][:split], "training-labels": sparse,
        "validation-raw": source["raw"][split:],
        "validation-labels": source["labels"][split:].astype(np.int64),
    }  # fmt: skip
    for name, array in arrays.items():
        attributes = dict(source[name.partition("-")[2]].attrs)
        path, names = folder / f"{name}.zarr", ("z", "y", "x")
        zarr.create_array(path, data=array, dimension_names=names, attributes=attributes)
    return {"training": [first, first + slices], "validation": [split, depth]}


def cases_of(options: argparse.Namespace, setting: Setting) -> dict[str, dict[str, Any]]:
    """Return the scores of every case, the weights themselves first."""
    found: dict[str, dict[str, Any]] = {}
    untrained = setting.prepared("weights", steps=1)
    if setting.start.takes_head(untrained.recipe):
        settings = {"learning_rate": LEAST_RATE, "schedule": "constant", "weight_decay": 0.0}
        found["not trained"] = setting.scored("weights", steps=1, **settings)
    measured = setting.scored("random", steps=MEASURED_STEPS)
    steps = max(1, round(60 * options.minutes / measured["seconds_per_step"]))
    print(f"{measured['seconds_per_step']:.2f} s per step: {steps} steps per case", flush=True)
    for name in options.cases:
        more = {"freeze": "contracting"} if name == "frozen" else {}
        found[name] = setting.scored(name, steps=steps, **more)
        print(f"{name}: mean IoU {found[name]['mean_iou']:.4f}", flush=True)
    return found


def table(cases: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the cases as lines."""
    classes = next(iter(cases.values()))["classes"]
    rows = [("case", "steps", "minutes", "pixel error", "mean IoU", *(f"IoU {c}" for c in classes))]
    for name, case in cases.items():
        scores = (case["pixel_error"], case["mean_iou"], *case["iou"])
        minutes = f"{case['seconds'] / 60:.1f}"
        rows.append((name, str(case["steps"]), minutes, *(f"{score:.4f}" for score in scores)))
    return aligned_figures(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="VOLUME.zarr")
    parser.add_argument("--from", dest="start_from", default="fib25-boundary", metavar="WEIGHTS")
    parser.add_argument("--slices", type=at_least_one, default=10)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--rule", choices=("boundary", "foreground"), default="boundary")
    parser.add_argument("--validation-slices", type=at_least_one, default=40)
    parser.add_argument("--cases", type=some_of(CASES), default=list(CASES))
    options = parser.parse_args()
    start = StartWeights.of(options.start_from)
    assert start is not None
    with tempfile.TemporaryDirectory() as name, open_cluster("local", workers=1) as client:
        folder = Path(name)
        parts = write_parts(
            options.data, folder, slices=options.slices, validation=options.validation_slices
        )
        plane = zarr.open_array(folder / "training-raw.zarr").shape[1:]
        patch = settled_core(start.info.config, None, [(options.slices, *plane)])
        setting = Setting(folder, start, options.rule, client, patch)
        cases = cases_of(options, setting)
    print(table(cases))
    figures = {
        "command": f"python -m benchmarks.from_weights --data {options.data.name} --from "
        f"{start.name} --slices {options.slices} --minutes {options.minutes:g} --rule "
        f"{options.rule} --validation-slices {options.validation_slices}",
        "start": start.record(), "data": options.data.name, "slices": parts, "cases": cases,
    }  # fmt: skip
    print(keep("from-weights", figures))


if __name__ == "__main__":
    main()
