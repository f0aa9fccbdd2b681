"""Voxels over time are counted once each, in a bounded number of intervals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger.throughput import MOST_INTERVALS, Throughput

blocks = st.lists(
    st.tuples(st.floats(0, 5000), st.floats(0, 400), st.integers(0, 10**7)), min_size=1, max_size=30
)


@given(blocks)
def test_every_voxel_is_in_one_interval_and_there_are_few_intervals(blocks):
    found = Throughput()
    for start, length, voxels in blocks:
        found = found.with_block(start_s=start, stop_s=start + length, voxels=voxels)
        assert len(found.voxels) <= MOST_INTERVALS + 1
    assert sum(found.voxels) == pytest.approx(sum(voxels for *_, voxels in blocks), abs=1)
    end = max(start + length for start, length, _ in blocks)
    assert found.interval_s * len(found.voxels) >= end


def test_a_block_is_spread_over_its_time_and_the_figures_survive_as_json():
    found = Throughput(interval_s=10.0).with_block(start_s=5, stop_s=25, voxels=200)
    assert found.voxels == (50, 100, 50)
    assert Throughput.from_json(found.to_json()) == found
    assert Throughput.from_json(None).voxels == ()
