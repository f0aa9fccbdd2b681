"""The watershed of ``overtile evaluate`` and ``objects`` beside scikit-image's, on the same seeds.

    python -m benchmarks.objects_watershed SCORES TRUTH [--class boundary] [--slices 0:120]
        [--thresholds 0.3,0.5] [--seed-distance 2]

SCORES: an output of ``overtile segment`` with scores; TRUTH: object ids. Seeds are where the score
is below the threshold, deeper than the distance in voxels. Prints the share of voxels that differ,
the errors of both against the truth outside its background, and seconds, the compilation left out.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.metrics import adapted_rand_error, variation_of_information
from skimage.segmentation import watershed

from pipeline.base.geometry import Box
from pipeline.evaluation.objects import seeded_watershed
from pipeline.volume.volume import find_volume, open_volume


def read_slices(uri: str, slices: tuple[int, int], **options: Any) -> NDArray[Any]:
    source = find_volume(uri, **options)
    _, height, width = source.shape_zyx
    return open_volume(source).read(Box((slices[0], 0, 0), (slices[1], height, width)))[0]


def flood_with_skimage(scores: NDArray[Any], *, threshold: float, distance: float) -> NDArray[Any]:
    """Return the same seeds, flooded in scikit-image's order."""
    deep = ndimage.distance_transform_edt(scores < threshold)
    seeds, _ = ndimage.label(deep > distance)
    return np.asarray(watershed(scores, seeds))


def errors(labels: NDArray[Any], truth: NDArray[Any]) -> str:
    known = truth > 0
    error = adapted_rand_error(truth[known], labels[known])[0]
    merge, split = variation_of_information(labels[known], truth[known])
    return f"adapted Rand error {error:.4f}, VOI split {split:.3f}, merge {merge:.3f}"


def compare(
    scores: NDArray[Any], truth: NDArray[Any], *, threshold: float, distance: float
) -> None:
    start = time.perf_counter()
    ours = seeded_watershed(scores, threshold=threshold, seed_distance=distance)
    middle = time.perf_counter()
    theirs = flood_with_skimage(scores, threshold=threshold, distance=distance)
    end = time.perf_counter()
    print(f"threshold {threshold:g}: {100 * np.mean(ours != theirs):.2f} % of the voxels differ")
    print(f"  overtile      {errors(ours, truth)}, {middle - start:.1f} s")
    print(f"  scikit-image  {errors(theirs, truth)}, {end - middle:.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scores")
    parser.add_argument("truth")
    parser.add_argument("--class", dest="name", default="boundary")
    parser.add_argument("--slices", default="0:120")
    parser.add_argument("--thresholds", default="0.3,0.5")
    parser.add_argument("--seed-distance", type=float, default=2.0)
    options = parser.parse_args()
    first, stop = map(int, options.slices.split(":"))
    chosen = int(options.name) if options.name.isdecimal() else options.name
    stored = read_slices(options.scores, (first, stop), channel=chosen)
    highest = np.float32(1 if stored.dtype.kind == "f" else np.iinfo(stored.dtype).max)
    scores = stored.astype(np.float32) / highest
    truth = read_slices(options.truth, (first, stop), holds="labels")
    seeded_watershed(scores[:8], threshold=0.5, seed_distance=options.seed_distance)
    for threshold in map(float, options.thresholds.split(",")):
        compare(scores, truth, threshold=threshold, distance=options.seed_distance)


if __name__ == "__main__":
    main()
