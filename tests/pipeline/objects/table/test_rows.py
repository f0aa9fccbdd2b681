"""Laws of the rows of objects: the rows of blocks are the rows of the volume, bit for bit."""

from fractions import Fraction
from itertools import pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.errors import GeometryError, OutputError
from pipeline.base.geometry import Box
from pipeline.objects.table.block_rows import rows_of_block, table_outer
from pipeline.objects.table.exact import as_int64, exact, times
from pipeline.objects.table.rows import FLOAT_UNIT_EXPONENT, MOMENTS, ObjectRows

IDS = np.array([0, 1, 2, 3, 2**32 + 1, 2**53 + 1, 2**64 - 1], np.uint64)
"""The last three are equal to others in 32 bits or in floats."""
DTYPES = ("uint8", "int16", "uint16", "int64", "uint64", "float16", "float32", "float64", "bool")
SPECIAL = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4e38, -3.4e38, 1e300])


def integers(limbs):
    """Return the limbs of each row as Python integers."""
    size = 32 * limbs.shape[-1]
    rows = limbs.reshape(-1, limbs.shape[-1])
    values = [sum(int(limb) << 32 * k for k, limb in enumerate(row)) for row in rows]
    return [value - (1 << size) if value >> (size - 1) else value for value in values]


def volume(seed, *, dtype="uint16", blocky=True):
    """Return random labels, scores and intensities of two channels."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 14, 3).tolist())
    places = rng.integers(0, len(IDS), shape)
    if blocky:
        places = places.repeat(2, 0).repeat(2, 1).repeat(3, 2)[: shape[0], : shape[1], : shape[2]]
    scores = rng.integers(0, 256, shape).astype(np.uint8)
    return IDS[places], scores, intensities(rng, (2, *shape), dtype)


def intensities(rng, shape, dtype):
    kind = np.dtype(dtype)
    if kind.kind == "f":
        values = rng.normal(size=shape) * 10.0 ** rng.integers(-30, 30, shape)
        rare = rng.random(shape) < 0.1
        values[rare] = rng.choice(SPECIAL, int(rare.sum()))
        with np.errstate(over="ignore"):
            return values.astype(kind)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    info = np.iinfo(kind)
    return rng.integers(info.min, info.max, shape, dtype=kind, endpoint=True)


def grid(shape, seed):
    """Yield the cores of a random grid of blocks, in random order."""
    rng = np.random.default_rng(seed)
    cuts = []
    for size in shape:
        inner = rng.choice(np.arange(1, size + 1), int(rng.integers(0, min(size, 3) + 1)))
        cuts.append(sorted({0, size, *inner.tolist()}))
    sides = [list(pairwise(cut)) for cut in cuts]
    cores = [
        Box((z[0], y[0], x[0]), (z[1], y[1], x[1]))
        for z in sides[0] for y in sides[1] for x in sides[2]
    ]  # fmt: skip
    return [cores[place] for place in rng.permutation(len(cores))]


def rows_of(core, labels, scores, values):
    return rows_of_block(
        labels[table_outer(core, labels.shape).slices],
        core=core,
        shape=labels.shape,
        scores_zyx=scores[core.slices],
        intensities_czyx=values[(slice(None), *core.slices)],
    )


def whole(labels, scores, values):
    return rows_of(Box.of_shape(labels.shape), labels, scores, values)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from(DTYPES), st.booleans())
def test_rows_of_any_grid_of_blocks_merge_to_the_rows_of_the_volume(seed, dtype, blocky):
    given_volume = volume(seed, dtype=dtype, blocky=blocky)
    parts = [rows_of(core, *given_volume) for core in grid(given_volume[0].shape, seed)]
    assert ObjectRows.merged(parts) == whole(*given_volume)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from(DTYPES))
def test_rows_merged_in_a_tree_equal_those_merged_at_once_also_as_bytes(seed, dtype):
    given_volume = volume(seed, dtype=dtype)
    parts = [rows_of(core, *given_volume) for core in grid(given_volume[0].shape, seed)]
    while len(parts) > 1:
        merged = ObjectRows.merged(parts[:2])
        parts = [*parts[2:], ObjectRows.from_bytes(merged.to_bytes())]
    assert parts[0] == whole(*given_volume)
    assert parts[0].to_bytes() == whole(*given_volume).to_bytes()


def test_rows_without_the_halo_differ_from_those_of_the_volume():
    labels, scores, values = volume(3)
    parts = [
        rows_of_block(labels[core.slices], core=Box.of_shape(core.shape), shape=core.shape)
        for core in grid(labels.shape, 3)
    ]
    merged = ObjectRows.merged(parts)
    reference = whole(labels, scores, values)
    assert np.array_equal(merged.voxels, reference.voxels)
    assert not np.array_equal(merged.inner_faces, reference.inner_faces)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(DTYPES))
def test_every_column_is_that_of_plain_numpy(seed, dtype):
    labels, scores, values = volume(seed, dtype=dtype)
    rows = whole(labels, scores, values)
    assert rows.ids.tolist() == sorted(set(np.unique(labels).tolist()) - {0})
    for place, number in enumerate(rows.ids):
        inside = labels == number
        coordinates = np.argwhere(inside)
        named = dict(zip("zyx", coordinates.T, strict=True))
        assert rows.voxels[place] == inside.sum()
        assert rows.first[place].tolist() == coordinates.min(axis=0).tolist()
        assert rows.last[place].tolist() == coordinates.max(axis=0).tolist()
        assert integers(rows.moments[place]) == [
            int(np.prod([named[axis] for axis in name], axis=0).sum()) for name in MOMENTS
        ]
        assert integers(rows.score_sums[place]) == [int(scores[inside].sum(dtype=np.int64))]
        assert (rows.inner_faces[place].tolist(), rows.outer_faces[place].tolist()) == faces(inside)
        for channel in range(2):
            check_channel(rows, place, channel, values[channel][inside])


def faces(inside):
    """Return the faces of a mask per axis: inside the volume, and at its edge."""
    inner = [int((np.diff(inside.astype(int), axis=axis) != 0).sum()) for axis in range(3)]
    outer = [int(inside.take([0, -1], axis=axis).sum()) for axis in range(3)]
    return inner, outer


def check_channel(rows, place, channel, inside):
    found = integers(rows.intensity_sums[place, channel])[0]
    if inside.dtype.kind == "f":
        with np.errstate(over="ignore"):
            kept = inside.astype(np.float32)
        kept = kept[np.isfinite(kept)]
        expected = sum(map(Fraction, kept.tolist()), Fraction(0))
        assert Fraction(found) * Fraction(2) ** FLOAT_UNIT_EXPONENT == expected
    else:
        kept = inside
        assert found == sum(map(int, kept.tolist()))
    assert rows.intensity_voxels[place, channel] == len(kept)
    if len(kept):
        assert rows.intensity_min[place, channel] == kept.min()
        assert rows.intensity_max[place, channel] == kept.max()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
def test_labels_of_any_unsigned_dtype_have_the_same_rows(dtype):
    labels = np.random.default_rng(0).integers(0, 4, (3, 5, 7)).astype(dtype)
    core = Box.of_shape(labels.shape)
    rows = rows_of_block(labels, core=core, shape=labels.shape)
    assert rows == rows_of_block(labels.astype(np.uint64), core=core, shape=labels.shape)
    assert rows.channels == 0
    assert integers(rows.score_sums) == [0, 0, 0]


def test_arrays_that_are_views_or_read_only_are_taken():
    labels, scores, values = volume(5, dtype="float32")
    reference = whole(labels, scores, values)
    turned = np.ascontiguousarray(labels.T).T
    for array in (turned, scores, values):
        array.flags.writeable = False
    assert whole(turned, scores, values) == reference


@pytest.mark.parametrize("zeros", [(0.0, -0.0), (-0.0, 0.0), (-0.0, -0.0)])
def test_the_sign_of_a_zero_depends_on_no_order(zeros):
    values = np.array(zeros, np.float32).reshape(1, 1, 1, 2)
    labels = np.ones((1, 1, 2), np.uint32)
    rows = whole(labels, labels, values)
    assert not np.signbit(rows.intensity_min).any()
    assert not np.signbit(rows.intensity_max).any()


def test_a_block_of_background_has_no_rows_and_merging_them_changes_nothing():
    labels, scores, values = volume(7)
    core = Box.of_shape(labels.shape)
    nothing = whole(np.zeros_like(labels), scores, values)
    assert nothing == ObjectRows.empty(2, dtype=values.dtype)
    rows = whole(labels, scores, values)
    assert ObjectRows.merged([nothing, rows, nothing]) == rows
    assert ObjectRows.merged([nothing, nothing]) == nothing
    assert core.voxels == labels.size


def test_sums_beyond_64_bits_are_exact():
    """Four voxels far from the first voxel, merged with themselves until they count 2**52."""
    core = Box((2**20, 2**21, 2**30), (2**20 + 1, 2**21 + 1, 2**30 + 4))
    shape = (2**21, 2**22, 2**31)
    rows = rows_of_block(
        np.ones(table_outer(core, shape).shape, np.uint32),
        core=core,
        shape=shape,
        scores_zyx=np.full(core.shape, 65535, np.uint16),
        intensities_czyx=np.full((1, *core.shape), 2**64 - 1, np.uint64),
    )
    for _ in range(50):
        rows = ObjectRows.merged([rows, rows])
    voxels = [{"z": 2**20, "y": 2**21, "x": 2**30 + k} for k in range(4)]
    expected = [2**50 * sum(prod(voxel[a] for a in name) for voxel in voxels) for name in MOMENTS]
    assert integers(rows.moments) == expected
    assert max(expected) > 2**111
    assert rows.voxels.tolist() == [2**52]
    assert integers(rows.score_sums) == [65535 * 2**52]
    assert integers(rows.intensity_sums) == [(2**64 - 1) * 2**52]
    assert not as_int64(rows.intensity_sums)[1].any()


def test_rows_are_taken_and_renamed():
    rows = whole(*volume(11))
    kept = rows.taken(rows.ids > 2)
    assert kept.ids.tolist() == [number for number in rows.ids.tolist() if number > 2]
    named = kept.renamed(np.arange(1, len(kept) + 1, dtype=np.uint64))
    assert named.ids.tolist() == list(range(1, len(kept) + 1))
    assert np.array_equal(named.moments, kept.moments)


@pytest.mark.parametrize("content", [b"", b"PK", b"x" * 100, "cut"])
def test_damaged_bytes_are_refused(content):
    whole_content = ObjectRows.empty(1).to_bytes()
    given_content = whole_content[: len(whole_content) // 2] if content == "cut" else content
    with pytest.raises(OutputError, match=r"rows of objects are damaged .*start the run again"):
        ObjectRows.from_bytes(given_content)


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_damaged_byte_is_noticed_or_changes_nothing(place, flip):
    rows = whole(*volume(1))
    content = bytearray(rows.to_bytes())
    content[place % len(content)] ^= flip
    try:
        found = ObjectRows.from_bytes(bytes(content))
    except OutputError:
        return
    assert found == rows


def test_arrays_that_do_not_fit_the_core_are_refused():
    labels = np.zeros((4, 5, 6), np.uint32)
    core = Box((0, 0, 0), (2, 5, 6))
    with pytest.raises(GeometryError, match=r"labels of shape \(4, 5, 6\): expected \(3, 5, 6\)"):
        rows_of_block(labels, core=core, shape=labels.shape)
    with pytest.raises(GeometryError, match=r"scores of shape .*expected \(2, 5, 6\)"):
        rows_of_block(labels[:3], core=core, shape=labels.shape, scores_zyx=labels)
    large = Box((0, 0, 0), (1, 2, 2**16 + 1))
    with pytest.raises(GeometryError, match=r"too large: .*choose a smaller block"):
        rows_of_block(labels, core=large, shape=large.shape)


def test_products_of_the_largest_coordinates_fit_the_limbs():
    largest = times(times(exact([2**63 - 1]), 2**31), 2**31)
    assert integers(largest) == [(2**63 - 1) * 2**62]
