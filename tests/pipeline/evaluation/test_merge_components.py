"""Laws of components across blocks: joined, they are those of the whole volume."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.base.geometry import Box
from pipeline.evaluation.contingency import count_pairs
from pipeline.evaluation.grid import BoxGrid, reading_step
from pipeline.evaluation.merge_components import BlockFaces, ComponentMerger
from pipeline.evaluation.objects import components

relaxed = settings(deadline=None)  # a busy machine is no broken law


@st.composite
def grids(draw, *, axes=3):
    sizes = st.lists(st.integers(1, 9), min_size=axes, max_size=axes)
    start = draw(st.lists(st.integers(0, 5), min_size=axes, max_size=axes))
    stop = [a + n for a, n in zip(start, draw(sizes), strict=True)]
    return BoxGrid(box=Box(tuple(start), tuple(stop)), step=tuple(draw(sizes)))


@relaxed
@given(grids())
def test_blocks_cover_every_voxel_of_the_box_once_and_none_outside(grid):
    seen = np.zeros([stop + 3 for stop in grid.box.stop], int)
    for index in grid:
        seen[grid.block(index).slices] += 1
    assert (seen[grid.box.slices] == 1).all()
    assert seen.sum() == grid.box.voxels
    assert len(list(grid)) == len(grid)


@relaxed
@given(grids())
def test_blocks_begin_at_multiples_of_the_step_or_with_the_box(grid):
    for index in grid:
        block = grid.block(index)
        assert block.voxels > 0
        for first, step, start in zip(block.start, grid.step, grid.box.start, strict=True):
            assert first % step == 0 or first == start


@relaxed
@given(grids())
def test_the_next_number_is_the_neighbour(grid):
    for index in grid:
        for axis in range(3):
            after = (*index[:axis], index[axis] + 1, *index[axis + 1 :])
            if after[axis] < grid.counts[axis]:
                assert grid.block(after).start[axis] == grid.block(index).stop[axis]


@pytest.mark.parametrize(
    ("chunks", "shape", "voxels", "step"),
    [
        ([(1, 256, 256)], (24, 512, 512), 2**22, (16, 512, 512)),
        ([(64, 64, 64)], (184, 250, 250), 2**22, (64, 256, 256)),
        ([(64, 64, 64), (32, 128, 64)], (500, 500, 500), 2**19, (64, 128, 64)),
        ([(1024, 1024, 1024)], (2000, 2000, 2000), 2**22, (128, 128, 256)),
    ],
)
def test_what_is_read_at_once_is_whole_chunks_within_a_limit(chunks, shape, voxels, step):
    assert reading_step(*chunks, shape=shape, voxels=voxels) == step


def merged(mask, grid, order):
    """Label a mask block by block, as workers do; return the labels of the whole."""
    merger = ComponentMerger(blocks=grid.counts)
    for index in order:
        merger.add(index, BlockFaces.of(*components(mask[grid.block(index).slices])))
    names = merger.names()
    whole = np.zeros(mask.shape, np.uint64)
    for index in grid:
        box = grid.block(index)
        whole[box.slices] = names[index][components(mask[box.slices])[0]]
    return whole


@st.composite
def masks(draw):
    grid = draw(grids())
    mask = np.zeros(grid.box.stop, bool)
    mask[grid.box.slices] = draw(hnp.arrays(bool, grid.box.shape))
    return mask, grid


def assert_same_but_for_names(one, other):
    """Both partition the voxels alike: no id of one meets two of the other."""
    table = count_pairs(one, other)
    assert len(table.counts) == len(table.truth_sizes[0]) == len(table.predicted_sizes[0])
    assert ((table.truth_ids == 0) == (table.predicted_ids == 0)).all()


@relaxed
@given(masks(), st.randoms())
def test_merged_components_are_those_of_the_whole_in_any_order(case, random):
    mask, grid = case
    order = list(grid)
    random.shuffle(order)
    assert_same_but_for_names(components(mask)[0], merged(mask, grid, order))


def test_a_snake_through_all_blocks_is_one_component():
    mask = np.zeros((1, 40, 40), bool)
    mask[0, ::2] = True
    mask[0, 1::4, -1] = mask[0, 3::4, 0] = True
    grid = BoxGrid(box=Box.of_shape(mask.shape), step=(1, 7, 5))
    labels = merged(mask, grid, list(grid))
    assert set(np.unique(labels)) == {0, 1}
    assert len(grid) == 48


def test_faces_are_forgotten_once_both_sides_have_come():
    grid = BoxGrid(box=Box((0, 0, 0), (4, 4, 4)), step=(2, 2, 2))
    merger = ComponentMerger(blocks=grid.counts)
    for index in grid:
        merger.add(index, BlockFaces.of(*components(np.ones((2, 2, 2), bool))))
    assert not merger._waiting


def test_no_component_at_all_is_only_background():
    grid = BoxGrid(box=Box((0, 0, 0), (2, 2, 2)), step=(1, 2, 2))
    assert not merged(np.zeros((2, 2, 2), bool), grid, list(grid)).any()


def test_diagonal_voxels_do_not_touch_across_faces_either():
    mask = np.indices((4, 4, 4)).sum(axis=0) % 2 == 0
    for step in itertools.product((1, 3), repeat=3):
        grid = BoxGrid(box=Box.of_shape(mask.shape), step=step)
        assert len(np.unique(merged(mask, grid, list(grid)))) == 1 + mask.sum()
