"""The documented loop of corrections, end to end on a small volume: each command, three rounds."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from scipy import ndimage

ROOT = Path(__file__).parents[1]
SHAPE = (40, 48, 48)


def cells(seed=2):
    """Return grey values and ids: cells around random points, dark where two of them meet."""
    random = np.random.default_rng(seed)
    points = (random.random((40, 3)) * SHAPE).astype(int)
    seeds = np.ones(SHAPE, bool)
    seeds[tuple(points.T)] = False
    nearest = ndimage.distance_transform_edt(seeds, return_distances=False, return_indices=True)
    _, ids = np.unique(np.ravel_multi_index(nearest, SHAPE), return_inverse=True)
    ids = ids.reshape(SHAPE).astype(np.uint32) + 1
    edges = sum(ids != np.roll(ids, 1, axis) for axis in range(3)) > 0
    grey = ndimage.gaussian_filter(np.where(edges, 40.0, 200.0), 0.7)
    return (grey + random.normal(scale=20, size=SHAPE)).clip(0, 255).astype(np.uint8), ids


@pytest.mark.slow
def test_three_rounds_of_corrections_paint_train_and_score(tmp_path):
    raw, ids = cells()
    for name, array in (("raw", raw), ("labels", ids)):
        zarr.create_array(tmp_path / "data.zarr" / name, data=array, dimension_names=list("zyx"))
    options = (
        "--labelled 0:6 --painted 6:24 --scored 28:40 --first-steps 12 --steps 6 --base 2 "
        "--levels 2 --patch 12 --voxels 600 --radius 3 --no-control --no-objects"
    )
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.corrections_loop", "--data", tmp_path / "data.zarr",
         "--work", tmp_path / "work", *options.split()],
        cwd=ROOT, env={**os.environ, "BENCH_RESULTS": str(tmp_path / "results")},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((tmp_path / "results/corrections_loop.json").read_text())["rounds"]
    assert [row["round"] for row in rows] == [0, 1, 2, 3]
    painted = [row["painted"] for row in rows]
    assert painted[0] == 0
    assert all(0 < after - before <= 600 for before, after in itertools.pairwise(painted))
    values = zarr.open_array(tmp_path / "work/corrections.zarr/0", mode="r")[...]
    assert not values[:6].any()
    assert not values[24:].any(), "nothing is painted in the slices that are scored"
    truth = zarr.open_array(tmp_path / "work/truth.zarr", mode="r")[...]
    assert np.array_equal(values[values > 0], truth[values > 0] + 1)
    assert all(0 <= row["pixel_error"] <= 1 for row in rows)
