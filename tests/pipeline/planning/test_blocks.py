import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import PlanError
from pipeline.base.geometry import Box, Halo
from pipeline.planning.blocks import BlockPlan


@st.composite
def plans(draw):
    dims = draw(st.integers(1, 3))

    def sizes(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(dims))

    divisor = sizes(1, 4)
    tile = tuple(d * n for d, n in zip(divisor, sizes(1, 3), strict=True))
    core = tuple(t * n for t, n in zip(tile, sizes(1, 3), strict=True))
    core = tuple(c + d * n for c, d, n in zip(core, divisor, sizes(0, 1), strict=True))
    halo = Halo(sizes(0, 9), sizes(0, 9))
    return BlockPlan(shape=sizes(1, 30), core=core, tile=tile, halo=halo, divisor=divisor)


@given(plans())
def test_cores_cover_every_voxel_once(plan):
    count = np.zeros(plan.shape, int)
    for block in plan.blocks():
        count[block.core.slices] += 1
    assert (count == 1).all()


@given(plans())
def test_tile_cores_cover_their_block_once_and_start_on_the_pooling_grid(plan):
    count = np.zeros(plan.shape, int)
    for block in plan.blocks():
        for tile in plan.tiles(block.core):
            assert block.core.contains(tile)
            assert all(a % d == 0 for a, d in zip(tile.start, plan.divisor, strict=True))
            count[tile.slices] += 1
    assert (count == 1).all()


@given(plans(), st.integers(1, 20), st.integers(1, 9))
def test_regions_hold_every_block_once(plan, at_most, at_least):
    regions = plan.regions(at_most=at_most, blocks_at_least=at_least)
    indices = list(itertools.chain.from_iterable(region.indices for region in regions))
    assert sorted(indices) == sorted(block.index for block in plan.blocks())
    assert [region.number for region in regions] == list(range(len(regions)))


@given(plans())
def test_the_outer_box_holds_the_core_and_its_halo(plan):
    def input_shape(core):  # a network whose valid sizes are odd
        return [
            n + low + high + (n + 1) % 2
            for n, low, high in zip(core, plan.halo.low, plan.halo.high, strict=True)
        ]

    for block in plan.blocks():
        assert plan.outer(block.core, input_shape).contains(plan.halo.around(block.core))


def test_a_plan_of_a_million_blocks_stores_none_of_them():
    plan = BlockPlan(
        shape=(6400, 6400, 6400), core=(64,) * 3, halo=Halo((8,) * 3, (8,) * 3), divisor=(4,) * 3
    )
    assert len(plan) == 10**6
    assert plan.block((99, 99, 99)).core == Box((6336,) * 3, (6400,) * 3)
    assert 1 < len(plan.regions(at_most=100)) <= 128


@pytest.mark.parametrize(
    ("core", "tile", "words"),
    [
        ((100,), (100,), "try 112"),
        ((0,), (16,), "try 16"),
        ((32,), (48,), "larger than block"),
        ((32, 32), (16,), "2 axes"),
    ],
)
def test_sizes_that_would_leave_seams_are_refused_with_advice(core, tile, words):
    with pytest.raises(PlanError, match=words) as caught:
        BlockPlan(shape=(500,), core=core, tile=tile, halo=Halo((92,), (92,)), divisor=(16,))
    assert "\n" not in str(caught.value)


def test_an_empty_volume_is_refused():
    with pytest.raises(PlanError, match="at least one voxel per axis"):
        BlockPlan(shape=(0, 4), core=(2, 2), halo=Halo((0, 0), (0, 0)), divisor=(1, 1))
