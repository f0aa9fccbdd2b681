"""Figures of found objects against true bodies that fill a volume, such as neurons of a block."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import adapted_rand_error, variation_of_information

from .measuring import digits

Labels = NDArray[Any]
MOST = 0.9
"""The part of the voxels that the largest bodies are counted for."""
SMALL = 1000
"""Bodies and objects of fewer voxels count as small."""


def figures(truth: Labels, found: Labels) -> dict[str, Any]:
    """Return the figures of found objects, where the truth has a body (is above 0).

    Of found labels, 0 is one object. ``voi``: variation of information, split + merge, in bits.
    """
    truth, found = truth[truth > 0], found[truth > 0]
    sizes = np.bincount(found)
    sizes[0] = 0
    return {
        **errors(truth, found),
        "objects": int((sizes > 0).sum()),
        "objects_of_90_percent": of_most(sizes),
        "in_small_objects": digits(float(sizes[sizes < SMALL].sum() / len(found))),
        "in_no_object": digits(float((found == 0).mean())),
    }


def errors(truth: Labels, found: Labels) -> dict[str, float]:
    """Return adapted Rand error and variation of information of two lists of labels."""
    split, merge = variation_of_information(truth, found)
    return {
        "adapted_rand_error": digits(float(adapted_rand_error(truth, found)[0])),
        "voi_split": digits(float(split)),
        "voi_merge": digits(float(merge)),
        "voi": digits(float(split + merge)),
    }


def by_majority(truth: Labels, found: Labels) -> dict[str, float]:
    """Return the errors of objects that are merged into the body that most of each belongs to."""
    truth, found = truth[truth > 0].astype(np.int64), found[truth > 0].astype(np.int64)
    return errors(truth, majority(truth, found))


def majority(truth: Labels, found: Labels) -> Labels:
    """Return, for two lists of labels, the body that most of each voxel's object belongs to."""
    most = int(truth.max()) + 1
    pairs, counts = np.unique(found * most + truth, return_counts=True)
    order = np.lexsort((counts, pairs // most))  # the last pair of each object is its largest
    body = np.zeros(int(found.max()) + 1, truth.dtype)
    body[pairs[order] // most] = pairs[order] % most
    return body[found]


def bodies(truth: Labels) -> dict[str, Any]:
    """Return how many bodies there are, and how few of them have most of the voxels.

    ``as_one``: the adapted Rand error of one object for all, which a useful result is far below.
    """
    inside = truth[truth > 0]
    sizes = np.bincount(inside)
    return {
        "bodies": int((sizes > 0).sum()),
        "bodies_of_1000_voxels": int((sizes >= SMALL).sum()),
        "bodies_of_90_percent": of_most(sizes),
        "largest_body": digits(float(sizes.max() / len(inside))),
        "as_one": digits(float(adapted_rand_error(inside, np.ones_like(inside))[0])),
    }


def of_most(sizes: Labels) -> int:
    """Return how many of the largest have most of the voxels."""
    largest = np.sort(sizes)[::-1]
    return int(np.searchsorted(np.cumsum(largest), MOST * largest.sum())) + 1
