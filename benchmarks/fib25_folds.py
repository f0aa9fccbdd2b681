"""Bodies of FIB-25 by cross-validation: four places, each scored by a network without its labels.

    python -m benchmarks.fib25_folds --data TRAIN.zarr --work FOLDER [--config FILE.toml]
        [--steps N] [--only PLACE,…] [--score] [--tta none|rotations|full]

TRAIN.zarr holds ``raw`` and ``labels`` (instance ids). The places are quarters of the volume: its
lower half in z cut in y, its upper half cut in x. For each, a network is trained with its labels
unknown, and segments it (raw values around it are read, as always). The options of ``overtile
objects`` for a place are those of the lowest variation of information, a mean over the three other
places. Those networks did see the labels of this place, and the recipe and the options that are
compared at all were chosen on DEVELOPED_ON: the figures to quote are those of the other three. The
truth is cut at the place's sides like the objects: parts of a body that are not connected inside
the place count as different bodies.

Printed per place: the figures of body_scores.py, with those of the basins if each were given the
body that most of it belongs to, and those of the options that are best for this very place.
``--score``: no training; the places whose networks exist are scored. Existing files of FOLDER are
kept: a stopped run resumes with the same command. Another recipe needs another FOLDER.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from distributed import Client
from skimage.measure import label

from pipeline import find_objects
from pipeline.base.local_client import local_client
from unet import read_weights_info

from .body_scores import bodies, by_majority, figures
from .measuring import at_least_one, cases_kept, commit, digits, keep, machine, some_of
from .training_study import overtile

HERE = Path(__file__).parent
PLACES = {
    "low-z-low-y": ((0, 0.5), (0, 0.5), (0, 1)),
    "low-z-high-y": ((0, 0.5), (0.5, 1), (0, 1)),
    "high-z-low-x": ((0.5, 1), (0, 1), (0, 0.5)),
    "high-z-high-x": ((0.5, 1), (0, 1), (0.5, 1)),
}
"""First and last plane of each place along z, y and x, as parts of the volume's sides."""
UNKNOWN = 2**32 - 1
DEVELOPED_ON = "low-z-low-y"
THRESHOLD = 0.05
DEPTHS = (0.005, 0.01, 0.02, 0.05)
MERGE_THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8)
Settings = dict[str, Any]


def box_of(place: str, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the box of a place in a volume of this shape (z, y, x)."""
    return tuple(
        slice(int(start * size), int(stop * size))
        for (start, stop), size in zip(PLACES[place], shape, strict=True)
    )


def trained(data: str, folder: Path, place: str, config: Path, steps: int) -> Path:
    """Return the weights of a network that never saw the labels of a place."""
    folder.mkdir(parents=True, exist_ok=True)
    stored: Any = zarr.open_array(f"{data}/labels", mode="r")
    box = box_of(place, stored.shape)
    known = folder / "labels.zarr"
    if not known.exists():
        labels = stored[...].astype(np.uint32)
        labels[box] = UNKNOWN
        begun = folder / "labels.begun.zarr"
        shutil.rmtree(begun, ignore_errors=True)
        zarr.save_array(str(begun), labels)
        os.replace(begun, known)
    assert (zarr.open_array(str(known), mode="r")[box] == UNKNOWN).all(), f"{known}: other places"
    weights = folder / "weights.safetensors"
    overtile(
        "train", "--volume", f"{data}/raw", "--labels", str(known), "--ignore", str(UNKNOWN),
        "--config", str(config), "--steps", str(steps), "--out", str(weights), "--resume",
    )  # fmt: skip
    return weights


def segmented(data: str, folder: Path, place: str, weights: Path, tta: str) -> str:
    """Return the scores of a place, by these weights, averaged over turned tiles."""
    stored: Any = zarr.open_array(f"{data}/raw", mode="r")
    box = ",".join(f"{one.start}:{one.stop}" for one in box_of(place, stored.shape))
    views = "" if tta == "none" else f"-{tta}"
    output = folder / f"scores-{digest_of(weights)}{views}.zarr"
    overtile(
        "segment", f"{data}/raw", str(output), "--weights", str(weights), "--box", box,
        "--outputs", "scores", "--tta", tta,
    )  # fmt: skip
    return str(output)


def digest_of(weights: Path) -> str:
    """Return the beginning of a weights file's digest."""
    return read_weights_info(str(weights)).digest[:12]


def candidates() -> Iterator[Settings]:
    """Yield the options that are compared: watersheds by depth, and their merges by mean."""
    for depth in DEPTHS:
        watershed = {"method": "watershed", "threshold": THRESHOLD, "depth": depth}
        yield watershed
        for merge in MERGE_THRESHOLDS:
            yield {**watershed, "agglomerate": "mean", "merge_threshold": merge}


KEYS = tuple(map(json.dumps, candidates()))
"""The options as text, under which figures are kept."""


def of_place(data: str, folder: Path, place: str, client: Client, *, scores: str) -> dict[str, Any]:
    """Return the figures of each candidate on a place; those that were computed are kept."""
    path = Path(scores).with_suffix(".figures.json")
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    stored: Any = zarr.open_array(f"{data}/labels", mode="r")
    truth = label(stored[box_of(place, stored.shape)], connectivity=1)
    with tempfile.TemporaryDirectory(dir=folder) as room:
        output = Path(room, "objects.zarr")
        for key in KEYS:
            if key in kept:
                continue
            settings = json.loads(key)
            find_objects(scores, str(output), client=client, overwrite=True, **settings)
            stored = zarr.open_array(output / "labels/objects/0", mode="r")
            found = np.asarray(stored[...]).reshape(truth.shape).astype(np.int64)
            kept[key] = figures(truth, found)
            if "agglomerate" not in settings:
                kept[key]["basins_by_majority"] = by_majority(truth, found)
            Path(room, "kept").write_text(json.dumps(kept, indent=1))
            os.replace(Path(room, "kept"), path)
    return {"of": {key: kept[key] for key in KEYS}, **bodies(truth)}


def chosen(places: Mapping[str, Mapping[str, Any]], but: str | None) -> str:
    """Return the candidate of the lowest mean variation of information on all other places."""
    others = [found["of"] for place, found in places.items() if place != but]
    return min(KEYS, key=lambda key: statistics.fmean(one[key]["voi"] for one in others))


def summary(places: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures of each place, with options chosen on the other places, and means."""
    rows: dict[str, Any] = {}
    for place, found in places.items():
        key = chosen(places, but=place)
        own = min(KEYS, key=lambda key: found["of"][key]["voi"])
        options = json.loads(key)
        basins = {name: options[name] for name in ("method", "threshold", "depth")}
        rows[place] = {
            "options": options,
            **found["of"][key],
            "basins_by_majority": found["of"][json.dumps(basins)]["basins_by_majority"],
            "at_own_best": {**found["of"][own], "options": json.loads(own)},
            **{name: value for name, value in found.items() if name != "of"},
        }
        print(f"{place}: {json.dumps(rows[place])}", flush=True)
    fair = [row for place, row in rows.items() if place != DEVELOPED_ON]
    means = {
        name: digits(statistics.fmean(row[name] for row in fair))
        for name in ("adapted_rand_error", "voi_split", "voi_merge", "voi")
    }
    print(f"means without {DEVELOPED_ON}: {means}")
    best = json.loads(chosen(places, but=None))
    return {
        "places": rows, f"means without {DEVELOPED_ON}": means, "options of all places": best,
    }  # fmt: skip


def schedule_of(weights: Path) -> str:
    """Return the learning-rate cycles of a network, as ``1200 steps`` or ``1200+800 steps``."""
    cycles = read_weights_info(str(weights)).provenance["schedule"]
    return "+".join(str(stop - start) for start, stop in cycles) + " steps"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="TRAIN.zarr")
    parser.add_argument("--work", required=True, type=Path, metavar="FOLDER")
    parser.add_argument("--config", type=Path, default=HERE / "fib25" / "affinities.toml")
    parser.add_argument("--steps", type=at_least_one, default=1200)
    parser.add_argument("--only", type=some_of(PLACES), default=list(PLACES))
    parser.add_argument("--score", action="store_true")
    parser.add_argument("--tta", choices=("none", "rotations", "full"), default="none")
    options = parser.parse_args()
    places: dict[str, Any] = {}
    schedules = set()
    for place in options.only:
        folder = options.work / place
        start = time.monotonic()
        weights = folder / "weights.safetensors"
        if not options.score:
            weights = trained(options.data, folder, place, options.config, options.steps)
        elif not weights.exists():
            continue
        print(f"{place}: {time.monotonic() - start:.0f} s of training", flush=True)
        schedules.add(schedule_of(weights))
        scores = segmented(options.data, folder, place, weights, options.tta)
        with local_client() as client:
            places[place] = of_place(options.data, folder, place, client, scores=scores)
    if len(places) < 2:
        parser.exit(0, "options are chosen on other places: score at least two\n")
    found = summary(places)
    if len(places) < len(PLACES) or len(schedules) > 1:
        parser.exit(0, "not kept: this takes all places, with trainings of the same length\n")
    kept = cases_kept("fib25-folds")
    views = "" if options.tta == "none" else f", --tta {options.tta}"
    name = f"{options.config.stem}, {schedules.pop()}{views}"
    recipe = read_weights_info(str(weights)).provenance["recipe"]
    kept[name] = {**found, "recipe": recipe, "commit": commit(), "machine": machine()}
    print(keep("fib25-folds", {"cases": kept}))


if __name__ == "__main__":
    main()
