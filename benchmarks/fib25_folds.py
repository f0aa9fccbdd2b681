"""Neurons of FIB-25 by cross-validation: four places, each scored by a network that never saw it.

    python -m benchmarks.fib25_folds --data TRAIN.zarr --work FOLDER [--config FILE.toml]
        [--steps N] [--only PLACE,…] [--score]

TRAIN.zarr holds ``raw`` and ``labels`` (instance ids). The places are quarters of the volume: its
lower half in z cut in y, its upper half cut in x. For each, a network is trained with its labels
unknown, and segments it (raw values around it are read, as always). The options of ``overtile
objects`` for a place are those of the lowest variation of information, a mean over the three other
places: nothing is chosen on what is scored. The truth is cut at the place's sides like the objects:
parts of a body that are not connected inside the place count as different bodies.

Printed per place: adapted Rand error, variation of information (split, merge), bodies, and how many
of these carry 90 % of the voxels; and what the basins of the same watershed would reach if each
were given the body that most of it belongs to. Not run in full yet.
``--score``: no training; the places whose networks exist are scored. Existing files of FOLDER are
kept: a stopped run resumes with the same command, and more ``--steps`` make the trainings longer.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from distributed import Client
from numpy.typing import NDArray
from skimage.measure import label
from skimage.metrics import adapted_rand_error, variation_of_information

from pipeline import find_objects
from pipeline.base.local_client import local_client

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
THRESHOLDS = (0.05, 0.3)
DEPTHS = (0.01, 0.02, 0.05)
MERGE_THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6)
MOST = 0.9
"""The part of the voxels that the largest bodies are counted for."""
Labels = NDArray[Any]
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
    known = folder / "labels.zarr"
    if not known.exists():
        stored: Any = zarr.open_array(f"{data}/labels", mode="r")
        labels = stored[...].astype(np.uint32)
        labels[box_of(place, labels.shape)] = UNKNOWN
        zarr.save_array(str(known), labels)
    weights = folder / "weights.safetensors"
    overtile(
        "train", "--volume", f"{data}/raw", "--labels", str(known), "--ignore", str(UNKNOWN),
        "--config", str(config), "--steps", str(steps), "--out", str(weights), "--resume",
    )  # fmt: skip
    return weights


def segmented(data: str, folder: Path, place: str, weights: Path) -> str:
    """Return the scores of a place, by these weights."""
    stored: Any = zarr.open_array(f"{data}/raw", mode="r")
    box = ",".join(f"{one.start}:{one.stop}" for one in box_of(place, stored.shape))
    output = folder / f"scores-{digest_of(weights)}.zarr"
    overtile(
        "segment", f"{data}/raw", str(output), "--weights", str(weights), "--box", box,
        "--outputs", "scores",
    )  # fmt: skip
    return str(output)


def digest_of(weights: Path) -> str:
    """Return the beginning of a weights file's digest."""
    from unet import read_weights_info

    return read_weights_info(str(weights)).digest[:12]


def candidates() -> Iterator[Settings]:
    """Yield the options that are compared: watersheds by depth, and their merges by mean."""
    for threshold in THRESHOLDS:
        for depth in DEPTHS:
            watershed = {"method": "watershed", "threshold": threshold, "depth": depth}
            yield watershed
            for merge in MERGE_THRESHOLDS:
                yield {**watershed, "agglomerate": "mean", "merge_threshold": merge}


def figures(truth: Labels, found: Labels) -> dict[str, Any]:
    """Return the figures of one place, where the truth has a body."""
    inside = truth > 0
    split, merge = variation_of_information(truth[inside], found[inside])
    best = best_assignment(truth[inside], found[inside])
    return {
        "adapted_rand_error": digits(float(adapted_rand_error(truth[inside], found[inside])[0])),
        "voi_split": digits(float(split)),
        "voi_merge": digits(float(merge)),
        "voi": digits(float(split + merge)),
        "objects": int((np.bincount(found[inside].ravel())[1:] > 0).sum()),
        "of_true_bodies": digits(float(adapted_rand_error(truth[inside], best)[0])),
    }


def best_assignment(truth: Labels, found: Labels) -> Labels:
    """Return each object as the body that most of it belongs to (1-D arrays)."""
    pairs, counts = np.unique(np.stack((found, truth)), axis=1, return_counts=True)
    order = np.lexsort((counts, pairs[0]))  # the last pair of each object is its largest
    body = np.zeros(int(found.max()) + 1, truth.dtype)
    body[pairs[0][order]] = pairs[1][order]
    body[0] = 0
    return body[found]


def bodies(truth: Labels) -> dict[str, int]:
    """Return how many bodies there are, and how many of the largest carry most of the voxels."""
    sizes = np.sort(np.bincount(truth.ravel())[1:])[::-1]
    sizes = sizes[sizes > 0]
    carrying = int(np.searchsorted(np.cumsum(sizes), MOST * sizes.sum())) + 1
    return {"bodies": len(sizes), "bodies_of_90_percent": carrying}


def of_place(data: str, folder: Path, place: str, client: Client, *, scores: str) -> dict[str, Any]:
    """Return the figures of each candidate on a place; those that were computed are kept."""
    path = Path(scores).with_suffix(".json")
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    stored: Any = zarr.open_array(f"{data}/labels", mode="r")
    truth = label(stored[box_of(place, stored.shape)], connectivity=1)
    with tempfile.TemporaryDirectory(dir=folder) as room:
        output = Path(room, "objects.zarr")
        for settings in candidates():
            key = json.dumps(settings)
            if key not in kept:
                find_objects(scores, str(output), client=client, overwrite=True, **settings)
                found: Any = zarr.open_array(output / "labels/objects/0", mode="r")[...]
                kept[key] = figures(truth, np.asarray(found).reshape(truth.shape).astype(np.int64))
                path.write_text(json.dumps(kept, indent=1))
    return {"of": kept, **bodies(truth)}


def chosen(places: Mapping[str, Mapping[str, Any]], but: str | None) -> str:
    """Return the candidate of the lowest mean variation of information on all other places."""
    others = [figures["of"] for place, figures in places.items() if place != but]

    def mean(key: str) -> float:
        return sum(float(one[key]["voi"]) for one in others) / len(others)

    return min(others[0], key=mean)


def summary(places: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures of each place, with options chosen on the other places."""
    rows: dict[str, Any] = {}
    for place, found in places.items():
        key = chosen(places, but=place)
        counts = {name: found[name] for name in ("bodies", "bodies_of_90_percent")}
        options = json.loads(key)
        basins = {name: options[name] for name in ("method", "threshold", "depth")}
        of_true_bodies = found["of"][json.dumps(basins)]["of_true_bodies"]
        rows[place] = {**found["of"][key], "of_true_bodies": of_true_bodies, **counts}
        rows[place]["options"] = options
        print(f"{place}: {json.dumps(rows[place])}", flush=True)
    rows["options chosen on all places"] = json.loads(chosen(places, but=None))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="TRAIN.zarr")
    parser.add_argument("--work", required=True, type=Path, metavar="FOLDER")
    parser.add_argument("--config", type=Path, default=HERE / "fib25" / "affinities.toml")
    parser.add_argument("--steps", type=at_least_one, default=1200)
    parser.add_argument("--only", type=some_of(PLACES), default=list(PLACES))
    parser.add_argument("--score", action="store_true")
    options = parser.parse_args()
    places: dict[str, Any] = {}
    for place in options.only:
        folder = options.work / place
        start = time.monotonic()
        weights = folder / "weights.safetensors"
        if not options.score:
            weights = trained(options.data, folder, place, options.config, options.steps)
        elif not weights.exists():
            continue
        print(f"{place}: {time.monotonic() - start:.0f} s of training", flush=True)
        scores = segmented(options.data, folder, place, weights)
        with local_client() as client:
            places[place] = of_place(options.data, folder, place, client, scores=scores)
    if len(places) < 2:
        parser.exit(0, "options are chosen on other places: score at least two\n")
    rows = summary(places)
    kept = cases_kept("fib25-folds")
    kept[f"{options.config.stem}, {options.steps} steps"] = {
        "places": rows, "commit": commit(), "machine": machine(),
    }  # fmt: skip
    print(keep("fib25-folds", {"cases": kept}))


if __name__ == "__main__":
    main()
