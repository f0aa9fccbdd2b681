"""The pyramid: scores are averaged, classes never; each shard has one writer."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import zarr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.base.location import Location
from pipeline.output.pyramid import LevelJob, reduced, write_shard, write_share

FACTORS = st.tuples(*[st.sampled_from([1, 2])] * 3)
SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, max_side=7)


def windows(array, factor):
    """Yield (place in the coarser level, the voxels that it stands for), one by one."""
    coarser = tuple(-(-n // f) for n, f in zip(array.shape, factor, strict=True))
    for place in itertools.product(*map(range, coarser)):
        box = tuple(slice(p * f, (p + 1) * f) for p, f in zip(place, factor, strict=True))
        yield place, array[box].ravel()


def majority(voxels):
    counts = Counter(voxels.tolist())
    return max(counts, key=lambda value: (counts[value], value))


@given(hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 4)), FACTORS)
@settings(max_examples=150, deadline=None)
def test_classes_take_the_most_frequent_value_and_of_equals_the_highest(classes, factor):
    result = reduced(classes, factor, "majority")
    assert result.dtype == np.uint8
    for place, voxels in windows(classes, factor):
        assert result[place] == majority(voxels)


@st.composite
def labels_of_any_width(draw):
    """Return ids of one unsigned type, some equal and some apart by one at the limits of floats."""
    dtype = draw(st.sampled_from([np.uint8, np.uint16, np.uint32, np.uint64]))
    limit = int(np.iinfo(dtype).max)
    near = [around + step for around in (2**24, 2**32, 2**53, limit) for step in (-2, -1, 0, 1)]
    few = st.sampled_from([0, 1, *(n for n in near if 0 <= n <= limit)])
    return draw(hnp.arrays(dtype, SHAPES, elements=few | st.integers(0, limit)))


@given(labels_of_any_width(), FACTORS)
@example(np.full((1, 2, 2), 2**24 + 1, np.uint32), (1, 2, 2))
@example(np.full((2, 2, 2), 2**64 - 1, np.uint64), (2, 2, 2))
@settings(max_examples=150, deadline=None)
def test_ids_of_any_width_stay_exact_in_coarser_levels(ids, factor):
    result = reduced(ids, factor, "majority")
    assert result.dtype == ids.dtype
    for place, voxels in windows(ids, factor):
        assert int(result[place]) == majority(voxels)


@given(hnp.arrays(np.uint8, SHAPES, elements=st.sampled_from([0, 1, 200, 255])), FACTORS)
@settings(max_examples=60, deadline=None)
def test_classes_are_never_averaged(classes, factor):
    for place, voxels in windows(classes, factor):
        assert reduced(classes, factor, "majority")[place] in voxels


@given(
    hnp.arrays(np.float32, SHAPES, elements=st.floats(0, 1, width=32)),
    FACTORS,
    st.sampled_from(["uint8", "float16", "float32"]),
)
@settings(max_examples=150, deadline=None)
def test_scores_are_the_mean_of_the_voxels_that_are_there(scores, factor, dtype):
    stored = np.rint(scores * 255).astype(dtype) if dtype == "uint8" else scores.astype(dtype)
    result = reduced(stored, factor, "mean")
    assert result.dtype == np.dtype(dtype)
    tolerance = {"uint8": 0.5 + 1e-5, "float16": 1e-3, "float32": 1e-6}[dtype]
    for place, voxels in windows(stored, factor):
        assert abs(float(result[place]) - voxels.astype(float).mean()) <= tolerance


def test_scores_of_classes_still_add_up_to_one():
    random = np.random.default_rng(0)
    scores = random.dirichlet(np.ones(3), size=(5, 7, 9)).transpose(3, 0, 1, 2).astype("f4")
    coarser = reduced(scores, (1, 2, 2, 2), "mean")
    assert coarser.shape == (3, 3, 4, 5)
    np.testing.assert_allclose(coarser.sum(axis=0), 1, atol=1e-6)


@pytest.fixture
def level(tmp_path):
    """Return a function that makes a finer array and the job of the next coarser level."""

    def make(values, factor, *, shard, chunk, reduction):
        root = zarr.open_group(tmp_path / "out.zarr", mode="w")
        root.create_array("0", data=values)
        shape = tuple(-(-n // f) for n, f in zip(values.shape, factor, strict=True))
        root.create_array("1", shape=shape, shards=shard, chunks=chunk, dtype=values.dtype,
                          fill_value=0)  # fmt: skip
        return LevelJob(
            output=Location.parse(tmp_path / "out.zarr"), run_token=f"t{id(values)}",
            finer_path="0", path="1", shape=shape, factor=factor, shard=shard, chunk=chunk,
            reduction=reduction,
        )  # fmt: skip

    return make


@pytest.mark.parametrize("shares", [1, 3, 50])
@pytest.mark.parametrize(
    ("shape", "factor", "shard", "chunk"),
    [
        ((13, 21, 30), (2, 2, 2), (4, 8, 8), (2, 4, 8)),
        ((13, 21, 30), (1, 2, 2), (4, 8, 8), (4, 8, 8)),
        ((1, 21, 30), (1, 2, 2), (4, 8, 8), (2, 4, 4)),
        ((3, 6, 9, 11), (1, 2, 2, 2), (3, 4, 4, 4), (1, 4, 4, 2)),
        ((21, 30), (2, 2), (8, 8), (4, 8)),
    ],
)
def test_a_stored_level_equals_the_whole_finer_one_made_coarser(
    shape, factor, shard, chunk, shares, level, tmp_path
):
    values = np.random.default_rng(2).integers(0, 4, shape, dtype=np.uint8)
    reduction = "mean" if len(shape) == 4 else "majority"
    job = level(values, factor, shard=shard, chunk=chunk, reduction=reduction)
    written = sum(len(write_share(job, share, shares)) for share in range(shares))
    stored = zarr.open_array(tmp_path / "out.zarr/1", mode="r")
    np.testing.assert_array_equal(stored[...], reduced(values, factor, reduction))
    assert written == np.prod([-(-n // s) for n, s in zip(job.shape, shard, strict=True)])


def test_shares_write_every_shard_once(level, tmp_path, monkeypatch):
    values = np.ones((13, 21, 30), np.uint8)
    job = level(values, (2, 2, 2), shard=(4, 8, 8), chunk=(4, 8, 8), reduction="majority")
    starts = []
    monkeypatch.setattr(
        "pipeline.output.pyramid.write_shard", lambda _, start: starts.append(start)
    )
    for share in range(4):
        write_share(job, share, 4)
    assert len(starts) == len(set(starts)) == 2 * 2 * 2
    assert all(n % s == 0 for start in starts for n, s in zip(start, job.shard, strict=True))
    monkeypatch.undo()
    write_shard(job, (4, 0, 8))
    files = [path for path in (tmp_path / "out.zarr/1/c").rglob("*") if path.is_file()]
    assert [str(path.relative_to(tmp_path / "out.zarr/1/c")) for path in files] == ["1/0/1"]
