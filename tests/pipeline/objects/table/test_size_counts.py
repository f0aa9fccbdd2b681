"""Counts by size lose no object, and know quantiles to 1 %, in a few thousand numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.objects.table.size_counts import SizeCounts

SIZES = st.lists(
    st.one_of(st.integers(1, 300), st.integers(1, 2**53)), min_size=1, max_size=60
)  # fmt: skip


def counted(sizes):
    return SizeCounts.of(np.array(sizes, np.int64))


@given(SIZES, SIZES)
def test_counts_of_parts_add_up_to_those_of_the_whole(one, other):
    np.testing.assert_array_equal(
        (counted(one) + counted(other)).counts, counted([*one, *other]).counts
    )


@given(SIZES, st.sampled_from([0.05, 0.5, 0.95, 1.0]))
def test_quantiles_are_exact_up_to_127_voxels_and_within_1_percent_above(sizes, share):
    exact = sorted(sizes)[max(1, int(np.ceil(round(share * len(sizes), 6)))) - 1]
    found = counted(sizes).quantile(share)
    assert found == pytest.approx(exact, rel=0 if exact < 128 else 0.01)


@given(SIZES, st.sampled_from([1, 10, 60]))
def test_every_object_is_in_exactly_one_bar_of_its_size(sizes, most):
    bars = counted(sizes).bars(most=most)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(bars)), "no gap"
    for low, high, count in bars:
        assert count == sum(low <= size < high for size in sizes)
    assert sum(count for *_, count in bars) == len(sizes)
    assert bars[0][2]
    assert bars[-1][2]


def test_bars_are_equally_wide_on_a_logarithmic_scale_and_few():
    bars = counted(np.geomspace(1e3, 1e9, 5000)).bars(most=60)
    widths = [np.log(high / low) for low, high, _ in bars]
    assert max(widths) < 1.1 * min(widths)
    assert 20 < len(bars) <= 60
