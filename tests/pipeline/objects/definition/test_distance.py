"""Distances up to a limit are scipy's, and need no voxel beyond their halo."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pipeline.objects.definition.distance import squared_distance
from pipeline.objects.definition.lengths import distance_halo


def masks(*, seed, count=12):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        shape = tuple(int(n) for n in rng.integers(1, 14, 3))
        spacing = tuple(int(n) for n in rng.choice([300, 700, 1000, 2500], 3))
        yield rng.random(shape) < rng.choice([0.5, 0.9, 0.99]), spacing, int(rng.integers(1, 6000))


def test_squared_distances_are_those_of_scipy_up_to_the_limit():
    for inside, spacing, limit in masks(seed=0):
        far = limit * limit + 1
        expected = np.full(inside.shape, far)
        if not inside.all():
            exact = ndimage.distance_transform_edt(inside, sampling=spacing)
            squares = np.rint(exact**2).astype(np.int64)
            expected = np.where(squares > limit * limit, far, squares)
        found = squared_distance(inside, spacing=spacing, limit=limit)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("short", [0, 1])
def test_the_halo_is_as_wide_as_needed_and_no_narrower_one_is_enough(short):
    wrong = 0
    for inside, spacing, limit in masks(seed=1):
        halo = [max(0, n - short) for n in distance_halo(limit, spacing)]
        low = [n // 3 for n in inside.shape]
        high = [n - n // 3 for n in inside.shape]
        outer = tuple(slice(max(0, a - h), b + h) for a, b, h in zip(low, high, halo, strict=True))
        core = tuple(
            slice(a - s.start, b - s.start) for a, b, s in zip(low, high, outer, strict=True)
        )
        whole = squared_distance(inside, spacing=spacing, limit=limit)
        part = squared_distance(np.ascontiguousarray(inside[outer]), spacing=spacing, limit=limit)
        inner = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        wrong += not np.array_equal(part[core], whole[inner])
    assert (wrong > 0) == (short > 0)
