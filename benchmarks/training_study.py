"""What lowers the error of a training: variants of one recipe, each with as many voxels.

    python -m benchmarks.training_study --data TRAIN.zarr --work FOLDER [--only "NAME;NAME+NAME;…"]
        [--steps N] [--base CHANNELS] [--tta none,full] [--times N] [--start WEIGHTS]

TRAIN.zarr holds ``raw`` and ``labels`` (1 = membrane) of the ISBI 2012 stack, slices 0 to 23. Every
variant is trained on slices 0 to 19 with ``overtile train`` and scored on slices 20 to 23 at the
best threshold of these slices. A variant differs from ``as is``, the preset ``default``, in the
settings that it names; ``NAME+NAME`` has those of both. Steps are those of ``as is``: variants
with other patches or batches take as many as give the same number of voxels. ``--times``: trainings
of each variant, with seeds 0, 1, …; their spread shows which differences count. ``--start``: every
variant goes on from these weights (``train --from``), so that a few hundred steps show which
settings lower the error further. Existing files of FOLDER are kept: a stopped study resumes, and
results of other variants in training-study.json stay.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .measuring import RESULTS, at_least_one, cases_kept, commit, digits, keep, machine, some_of

HELD_OUT = "20:24"
PATCH = (388, 388)
Changes = Mapping[str, Mapping[str, Any]]
IN_PLANE, IN_SPACE = (1, 3, 3), (3, 3, 3)
AUGMENT = "training.augment"
VARIANTS: Mapping[str, Changes] = {
    "as is": {},
    "no border weight": {"training": {"border_weight": 0.0}},
    "border weight 10": {"training": {"border_weight": 10.0}},
    "half deformed": {AUGMENT: {"deformed_share": 0.5}},
    "nothing deformed": {AUGMENT: {"deformed_share": 0.0}},
    "elastic sigma 4": {AUGMENT: {"elastic_sigma": 4.0}},
    "elastic sigma 20": {AUGMENT: {"elastic_sigma": 20.0}},
    "8 knots, sigma 5": {AUGMENT: {"elastic_knots": 8, "elastic_sigma": 5.0}},
    "no grey values varied": {AUGMENT: {"contrast": 0.0, "brightness": 0.0, "gamma": 0.0}},
    "noise 0.1": {AUGMENT: {"noise": 0.1}},
    "noise 0.3": {AUGMENT: {"noise": 0.3}},
    "dropout 0": {"network": {"dropout": 0.0}},
    "dropout 0.2": {"network": {"dropout": 0.2}},
    "batch norm": {"network": {"norm": "batch"}, "training": {"batch": 2, "patch": (260, 260)}},
    "4 patches of 196": {"training": {"batch": 4, "patch": (196, 196)}},
    "rate 0.0003": {"training": {"learning_rate": 3e-4}},
    "rate 0.003": {"training": {"learning_rate": 3e-3}},
    "cosine": {"training": {"schedule": "cosine"}},
    "mean of weights 0.999": {"training": {"ema": 0.999}},
    "no mean of weights": {"training": {"ema": 0.0}},
    "weight decay 0.01": {"training": {"weight_decay": 0.01}},
    "4 levels": {"network": {"levels": 4}},
    "slices above and below": {
        "network": {
            "dims": 3,
            "kernels": (IN_PLANE,) * 4 + (IN_SPACE,),
            "pooling": ((1, 2, 2),) * 4,
            "norm": "batch",
        },
        "training": {"batch": 1, "patch": (4, 260, 260)},
    },
}


def changes_of(name: str) -> Changes:
    """Return the settings of a variant, or of several joined by ``+``. Raises KeyError."""
    merged: dict[str, dict[str, Any]] = {}
    for one in name.split("+"):
        for table, settings in VARIANTS[one].items():
            merged.setdefault(table, {}).update(settings)
    return merged


def config_of(changes: Changes, *, steps: int, base: int, seed: int) -> str:
    """Return the TOML of a variant; its steps give as many voxels as ``steps`` of PATCH."""
    tables: dict[str, dict[str, Any]] = {
        "network": {"base_channels": base, "levels": 5},
        "training": {"patch": PATCH, "seed": seed, "batch": 1},
        AUGMENT: {},
        "labels": {"object_class": 0},
    }
    for name, settings in changes.items():
        tables[name] |= settings
    training = tables["training"]
    voxels = training["batch"] * math.prod(training["patch"])
    training["steps"] = round(steps * math.prod(PATCH) / voxels)
    training["validate_every"] = max(1, training["steps"] // 4)
    lines = ['class_names = ["inside", "membrane"]']
    for name, settings in tables.items():
        lines += [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in settings.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def overtile(*words: str) -> None:
    """Run the shell's command; its lines go to this program's output."""
    subprocess.run([sys.executable, "-P", "-m", "flows.cli", *words], check=True)


def scores_of(output: Path, labels: str) -> dict[str, float]:
    """Return the figures of an output on the held-out slices, at the best thresholds."""
    report = output.with_suffix(".json")
    if not report.exists():
        overtile(
            "evaluate", str(output), labels, "--scores", "membrane", "--objects", "watershed",
            "--seed-distance", "0", "--per-slice", "--truth-objects", "0", "--slices", HELD_OUT,
            "--json", str(report),
        )  # fmt: skip
    found = json.loads(report.read_text())
    pixels, objects = found["pixels"], found["objects"]
    return {
        "pixel_error": digits(pixels["pixel_error"]),
        "pixels_threshold": pixels["threshold"],
        "adapted_rand_error": digits(objects["adapted_rand_error"]),
        "v_rand": digits(objects["v_rand"]),
        "objects_threshold": objects["threshold"],
    }


def trained(data: str, folder: Path, config: str, start_from: list[str]) -> tuple[Path, float]:
    """Return the weights of a variant, and the seconds of their training; existing ones stay."""
    folder.mkdir(parents=True, exist_ok=True)
    weights, took = folder / "weights.safetensors", folder / "seconds"
    (folder / "config.toml").write_text(config)
    if not took.exists():
        start = time.monotonic()
        overtile(
            "train", "--volume", f"{data}/raw", "--labels", f"{data}/labels", "--validation-slices",
            HELD_OUT, "--config", str(folder / "config.toml"), "--out", str(weights), "--resume",
            *start_from,
        )  # fmt: skip
        took.write_text(f"{time.monotonic() - start:.1f}")
    return weights, float(took.read_text())


def measured(
    name: str,
    data: str,
    work: Path,
    *,
    steps: int,
    base: int,
    seed: int,
    tta: list[str],
    start: str | None,
) -> dict[str, Any]:
    """Return the figures of one training of a variant."""
    begun = f"from-{Path(start).stem}-" if start else ""
    folder = work / f"{begun}{base}-{steps}-{seed}-{name.replace(' ', '-').replace(',', '')}"
    config = config_of(changes_of(name), steps=steps, base=base, seed=seed)
    weights, seconds = trained(data, folder, config, ["--from", start] if start else [])
    figures: dict[str, Any] = {"seconds": digits(seconds)}
    for views in tta:
        output = folder / f"{views}.zarr"
        overtile(
            "segment", f"{data}/raw", str(output), "--weights", str(weights), "--outputs",
            "classes,scores", "--tta", views,
        )  # fmt: skip
        figures[f"tta {views}"] = scores_of(output, f"{data}/labels")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="TRAIN.zarr")
    parser.add_argument("--work", required=True, type=Path, metavar="FOLDER")
    parser.add_argument("--only", type=lambda text: text.split(";"), default=list(VARIANTS))
    parser.add_argument("--steps", type=at_least_one, default=1000)
    parser.add_argument("--base", type=at_least_one, default=16)
    parser.add_argument("--times", type=at_least_one, default=1)
    parser.add_argument("--tta", type=some_of(("none", "full")), default=["none"])
    parser.add_argument("--start", metavar="WEIGHTS")
    options = parser.parse_args()
    for seed in range(options.times):
        for name in options.only:
            figures = measured(
                name, options.data, options.work, steps=options.steps, base=options.base,
                seed=seed, tta=options.tta, start=options.start,
            )  # fmt: skip
            kept = cases_kept("training-study")
            begun = f" more from {Path(options.start).stem}" if options.start else ""
            key = f"base {options.base}, {options.steps} steps{begun}: {name}"
            runs = {**kept.get(key, {}).get("seeds", {}), str(seed): figures}
            kept[key] = {
                "changes": changes_of(name), "seeds": runs, "commit": commit(),
                "machine": machine(),
            }  # fmt: skip
            keep("training-study", {"cases": kept})
            print(key, seed, json.dumps(figures), flush=True)
    print(RESULTS / "training-study.json")


if __name__ == "__main__":
    main()
