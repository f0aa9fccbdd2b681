"""The sizes of a converted image fit together, and the input is decoded as rarely as possible."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import PlanError
from pipeline.conversion.sizes import BLOCK_BYTES, choose_sizes

sides = st.tuples(st.integers(1, 3000), st.integers(1, 60000), st.integers(1, 60000))
pieces = st.tuples(st.integers(1, 200), st.integers(1, 60000), st.integers(1, 60000))


@given(sides, pieces, st.sampled_from([1, 2, 6, 32]))
def test_blocks_are_whole_shards_and_shards_are_whole_chunks(shape, stored, voxel_bytes):
    sizes = choose_sizes(shape, stored, voxel_bytes=voxel_bytes)
    assert not any(b % s for b, s in zip(sizes.block, sizes.shard, strict=True))
    assert not any(s % c for s, c in zip(sizes.shard, sizes.chunk, strict=True))
    bytes_of_block = math.prod(sizes.block) * voxel_bytes
    assert bytes_of_block <= BLOCK_BYTES or sizes.block == sizes.shard


@pytest.mark.parametrize("plane", [(700, 900), (3000, 4000), (10000, 10000)])
def test_each_plane_of_a_stack_of_planes_is_decoded_once(plane):
    sizes = choose_sizes((500, *plane), (1, *plane), voxel_bytes=2)
    assert all(block >= size for block, size in zip(sizes.block[1:], plane, strict=True))


def test_planes_too_large_for_memory_are_decoded_more_than_once():
    sizes = choose_sizes((50, 60000, 60000), (1, 60000, 60000), voxel_bytes=2)
    assert math.prod(sizes.block) * 2 <= BLOCK_BYTES


@given(sides, st.tuples(*[st.integers(1, 64)] * 3))
def test_a_given_chunk_is_kept(shape, chunk):
    sizes = choose_sizes(shape, (1, 1, 1), voxel_bytes=1, chunk=chunk)
    assert sizes.chunk == chunk


def test_a_chunk_that_does_not_divide_its_shard_is_refused():
    with pytest.raises(PlanError, match="does not divide shard 64×100×100: pass --shard"):
        choose_sizes(
            (64, 500, 500), (1, 1, 1), voxel_bytes=1, shard=(64, 100, 100), chunk=(64, 64, 64)
        )
