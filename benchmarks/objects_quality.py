"""Objects against the truth: options chosen on one part of the data, scored on another.

    python -m benchmarks.objects_quality SCORES TRUTH --role foreground --choose 2:256:384 \\
        --score 2:384:512 [--seed-distances 1,2,3,4,5,6,8] [--min-voxels 1,20,50]

SCORES: an output of overtile with scores; TRUTH: an array of ids. Parts are AXIS:START:STOP of z, y
and x (0, 1, 2); ``--choose`` may be repeated. Foreground objects are compared by F1 at IoU 0.5,
beside scikit-image's watershed of the distance from its peaks; objects between boundaries by the
variation of information (lower is better), with and without agglomeration. Prints the best options
of each method on the parts to choose from, with the figure there and on the part to score; between
boundaries also its terms and the adapted Rand error.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy import ndimage

from pipeline import find_objects, find_volume, open_volume
from pipeline.base.geometry import Box
from pipeline.base.local_client import local_client
from pipeline.base.location import Location
from pipeline.volume.micrometres import voxel_size_um

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
DEPTHS = (0.02, 0.05, 0.1, 0.2, 0.3)
MERGE_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
AFFINITY_THRESHOLDS = (0.1, 0.3, 0.5)
ROLES = ("foreground", "boundary", "affinities")
Labels = NDArray[Any]


def f1(truth: Labels, found: Labels) -> float:
    """Return F1 of objects that overlap with an IoU above 0.5."""
    sizes, counts = np.bincount(truth.ravel()), np.bincount(found.ravel())
    both = (truth > 0) & (found > 0)
    pairs, common = np.unique(np.stack((truth[both], found[both])), axis=1, return_counts=True)
    matched = int((common / (sizes[pairs[0]] + counts[pairs[1]] - common) > 0.5).sum())
    return float(2 * matched / max(1, (sizes[1:] > 0).sum() + (counts[1:] > 0).sum()))


def less_information(truth: Labels, found: Labels) -> float:
    """Return minus the variation of information, where the truth has an object."""
    from skimage.metrics import variation_of_information

    inside = truth > 0
    return -float(sum(variation_of_information(truth[inside], found[inside])))


def in_full(truth: Labels, found: Labels) -> str:
    """Return the adapted Rand error, and the variation of information: split and merge."""
    from skimage.metrics import adapted_rand_error, variation_of_information

    inside = truth > 0
    split, merge = variation_of_information(truth[inside], found[inside])
    error = adapted_rand_error(truth[inside], found[inside])[0]
    return f"adapted Rand error {error:.3f}, VOI split {split:.3f}, merge {merge:.3f}"


def without_small(labels: Labels, voxels: int) -> Labels:
    keeps = np.bincount(labels.ravel()) >= voxels
    keeps[0] = False
    return np.where(keeps[labels], labels, 0)


def candidates(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield methods and their options."""
    if options.role == "boundary":
        yield from merged_by_mean({})
        return
    if options.role == "affinities":
        for threshold in AFFINITY_THRESHOLDS:
            yield "components", {"threshold": threshold}
            yield from merged_by_mean({"threshold": threshold})
        return
    for threshold in THRESHOLDS:
        yield "components", {"threshold": threshold}
        for depth in DEPTHS:
            yield "watershed by depth", {
                "method": "watershed", "threshold": threshold, "depth": depth,
            }  # fmt: skip
        for distance in options.seed_distances:
            yield "watershed from seeds", {
                "method": "watershed", "threshold": threshold, "seed_threshold": threshold,
                "seed_distance": distance,
            }  # fmt: skip


def merged_by_mean(settings: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield watersheds by depth, each also with the merge thresholds."""
    for depth in DEPTHS:
        watershed = {"method": "watershed", "depth": depth, **settings}
        yield "watershed by depth", watershed
        for threshold in MERGE_THRESHOLDS:
            merged = {"agglomerate": "mean", "merge_threshold": threshold}
            yield "watershed by depth, merged by mean", {**watershed, **merged}


def of_scikit_image(
    scores: NDArray[np.float64], spacing: Sequence[float], distances: Sequence[float]
) -> Iterator[tuple[dict[str, Any], Labels]]:
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    for threshold in THRESHOLDS:
        mask = scores >= threshold
        distance: Any = ndimage.distance_transform_edt(mask, sampling=spacing)
        for least in distances:
            for sigma in (0, 1, 2):
                smooth = ndimage.gaussian_filter(distance, sigma) if sigma else distance
                near = max(1, round(least / spacing[-1]))
                peaks = peak_local_max(
                    smooth, min_distance=near, labels=ndimage.label(mask)[0], exclude_border=False
                )
                seeds = np.zeros(mask.shape, np.int64)
                seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
                options = {"threshold": threshold, "distance": least, "sigma": sigma}
                yield options, watershed(-smooth, seeds, mask=mask)


def part(text: str) -> tuple[slice, ...]:
    axis, start, stop = map(int, text.split(":"))
    return tuple(slice(start, stop) if a == axis else slice(None) for a in range(3))


def numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


class Best:
    """The best options of each method."""

    def __init__(self, options: argparse.Namespace, truth: Labels) -> None:
        self._options, self._truth = options, truth
        self._figure = f1 if options.role == "foreground" else less_information
        self._best: dict[str, tuple[float, dict[str, Any], str]] = {}

    def consider(self, method: str, settings: dict[str, Any], labels: Labels) -> None:
        for voxels in map(int, self._options.min_voxels):
            kept = without_small(labels, voxels)
            chosen = float(np.mean([self._on(kept, one) for one in self._options.choose]))
            if method not in self._best or chosen > self._best[method][0]:
                scored = self._scored(kept, self._options.score)
                self._best[method] = chosen, {**settings, "min_voxels": voxels}, scored

    def _scored(self, labels: Labels, place: tuple[slice, ...]) -> str:
        text = f"{abs(self._on(labels, place)):.3f}"
        if self._options.role == "foreground":
            return text
        return f"{text} ({in_full(self._truth[place], labels[place])})"

    def _on(self, labels: Labels, place: tuple[slice, ...]) -> float:
        return self._figure(self._truth[place], labels[place])

    def show(self) -> None:
        for method, (chosen, settings, scored) in self._best.items():
            print(f"{method}: {abs(chosen):.3f} where chosen, {scored} apart; {settings}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scores")
    parser.add_argument("truth")
    parser.add_argument("--role", choices=ROLES, required=True)
    parser.add_argument("--score-class", default="1")
    parser.add_argument("--choose", type=part, action="append", required=True)
    parser.add_argument("--score", type=part, required=True)
    parser.add_argument("--seed-distances", type=numbers, default=(1.0, 2.0, 3.0, 4.0, 6.0, 8.0))
    parser.add_argument("--min-voxels", type=numbers, default=(1.0,))
    options = parser.parse_args()
    source = find_volume(Location.parse(options.scores), channel=options.score_class)
    truth: Any = zarr.open_array(options.truth, mode="r")[...]
    shape = source.shape_zyx
    of_class: Any = {"role": options.role, "score_class": options.score_class}
    if options.role == "affinities":
        of_class = {}
    best = Best(options, np.asarray(truth).reshape(shape).astype(np.int64))
    with tempfile.TemporaryDirectory() as folder, local_client() as client:
        output = Path(folder) / "objects.zarr"
        for method, settings in candidates(options):
            find_objects(
                options.scores, str(output), client=client, overwrite=True, **of_class, **settings
            )
            labels: Any = zarr.open_array(output / "labels/objects/0", mode="r")[...]
            best.consider(method, settings, np.asarray(labels).reshape(shape).astype(np.int64))
    if options.role == "foreground":
        values = open_volume(source).read(Box.of_shape(shape))[0]
        scores = values / (np.iinfo(values.dtype).max if values.dtype.kind == "u" else 1)
        spacing = [one or 1.0 for one in voxel_size_um(source)]
        for settings, labels in of_scikit_image(scores, spacing, options.seed_distances):
            best.consider("scikit-image", settings, labels)
    best.show()


if __name__ == "__main__":
    main()
