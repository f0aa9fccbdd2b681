"""The tree of merges covers every block once; neighbours are neighbours of each other."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import PlanError
from pipeline.objects.definition.neighbourhood import neighbour_offsets
from pipeline.objects.merging.groups import Tree

GRIDS = st.tuples(*[st.integers(1, 9)] * 3)


@given(GRIDS)
def test_each_level_of_the_tree_covers_the_level_below_once(grid):
    tree = Tree(grid=grid)
    assert tree.counts(0) == grid
    for level in range(1, tree.depth + 1):
        groups = list(tree.groups(level))
        children = Counter(child for group in groups for child in tree.children(level, group))
        assert children == Counter(tree.groups(level - 1))
        assert all(
            tree.parent(child) == group for group in groups for child in tree.children(level, group)
        )
        assert max(len(tree.children(level, group)) for group in groups) <= 8
    assert list(tree.groups(tree.depth)) == [(0, 0, 0)]


@given(GRIDS)
def test_the_tree_is_as_deep_as_the_longest_axis_needs(grid):
    depth = Tree(grid=grid).depth
    assert depth == max(1, int(np.ceil(np.log2(max(grid)))))


@given(st.tuples(*[st.integers(1, 4)] * 3))
def test_blocks_around_a_block_see_it_in_the_opposite_direction(grid):
    tree = Tree(grid=grid)
    for block in tree.groups(0):
        for direction, other in tree.neighbours(block):
            back = tuple(-d for d in direction)
            assert dict(tree.neighbours(other))[back] == block


@pytest.mark.parametrize(
    ("connectivity", "per_slice", "count"),
    [(6, False, 6), (18, False, 18), (26, False, 26), (4, True, 4), (6, True, 4), (8, True, 8),
     (18, True, 8), (26, True, 8)],
)  # fmt: skip
def test_offsets_are_in_raster_order_and_opposite_ones_mirror_each_other(
    connectivity, per_slice, count
):
    offsets = neighbour_offsets(connectivity, per_slice=per_slice)
    assert len(offsets) == count
    assert sorted(map(tuple, offsets.tolist())) == list(map(tuple, offsets.tolist()))
    np.testing.assert_array_equal(offsets[::-1], -offsets)
    assert not per_slice or not offsets[:, 0].any()


@pytest.mark.parametrize(("connectivity", "per_slice"), [(4, False), (8, False), (7, True)])
def test_other_numbers_of_neighbours_are_refused(connectivity, per_slice):
    with pytest.raises(PlanError, match=f"connectivity {connectivity}: expected "):
        neighbour_offsets(connectivity, per_slice=per_slice)
