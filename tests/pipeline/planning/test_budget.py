import itertools
import math
import time
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.base.errors import PlanError
from pipeline.base.geometry import Box
from pipeline.planning import tile_choice
from pipeline.planning.blocks import tile_input
from pipeline.planning.budget import Layout, reckon
from pipeline.planning.make_plan import make_plan
from pipeline.planning.tile_choice import choose_block, choose_chunk, choose_tile


class Network:
    """A network of known cost: a million operations per input voxel, eight bytes each."""

    def __init__(self, halo=(2, 4, 4), divisor=(1, 4, 4), rest=(0, 2, 2)):
        self.halo, self.divisor, self.rest = halo, divisor, rest

    def input_shape(self, output_shape):
        sizes = []
        for n, h, d, r in zip(output_shape, self.halo, self.divisor, self.rest, strict=True):
            size = n + 2 * h
            sizes.append(size + (r - size) % d)
        return tuple(sizes)

    def flops(self, output_shape):
        return 10**6 * math.prod(self.input_shape(output_shape))

    def memory_bytes(self, output_shape):
        return 8 * math.prod(self.input_shape(output_shape))


def layout(chunk=(2, 8, 8)):
    return Layout(
        channels=2, itemsize=2, chunk_zyx=chunk, output_bytes_per_voxel=3, files_per_block=2
    )


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 30)] * 3),
    tiles=st.tuples(*[st.integers(1, 3)] * 3),
    blocks=st.tuples(*[st.integers(1, 3)] * 3),
)
def test_the_budget_equals_a_count_over_every_block(shape, tiles, blocks):
    network = Network()
    tile = tuple(d * n for d, n in zip(network.divisor, tiles, strict=True))
    core = tuple(t * n for t, n in zip(tile, blocks, strict=True))
    plan = make_plan(shape, network, block=core, tile=tile)
    budget = reckon(plan, network, layout(), regions=1)
    whole = Box.of_shape(shape)
    cores = [t for block in plan.blocks() for t in plan.tiles(block.core)]
    assert budget.tiles == len(cores)
    assert budget.flops == sum(network.flops(c.shape) for c in cores)
    inputs = sum(tile_input(c, plan.halo, network.input_shape).voxels for c in cores)
    assert budget.tile_amplification == pytest.approx(inputs / math.prod(shape))
    read = chunked = 0
    for block in plan.blocks():
        outer = plan.outer(block.core, network.input_shape).clipped_to(whole)
        read += outer.voxels
        in_chunks = Box(
            tuple(a // c * c for a, c in zip(outer.start, (2, 8, 8), strict=True)),
            tuple(-(-b // c) * c for b, c in zip(outer.stop, (2, 8, 8), strict=True)),
        )
        chunked += in_chunks.clipped_to(whole).voxels
    assert budget.bytes_read == read * 4
    assert budget.bytes_read_in_whole_chunks == chunked * 4
    assert budget.read_amplification == pytest.approx(chunked / math.prod(shape))
    assert budget.bytes_written == math.prod(shape) * 3
    assert budget.files == 2 * len(plan)


@settings(deadline=None)
@given(
    shape=st.tuples(st.integers(1, 80), st.integers(1, 3000), st.integers(1, 3000)),
    mebibytes=st.integers(1, 500),
)
def test_a_chosen_tile_fits_its_memory_and_the_grid(shape, mebibytes):
    network = Network()
    tile = choose_tile(shape, network, memory_bytes=mebibytes * 2**20)
    clipped = tuple(min(t, n) for t, n in zip(tile, shape, strict=True))
    assert network.memory_bytes(clipped) <= mebibytes * 2**20
    assert all(t % d == 0 for t, d in zip(tile, network.divisor, strict=True))


def test_more_memory_never_costs_more_operations():
    network = Network(halo=(20, 20, 20), divisor=(4, 4, 4))
    costs = []
    for mebibytes in (2, 8, 32, 128, 512):
        plan = make_plan((300, 300, 300), network, memory_bytes=mebibytes * 2**20)
        costs.append(reckon(plan, network, layout(), regions=1).flops)
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > 4 * costs[-1]


@pytest.mark.parametrize("side", [2048, 5000, 10000])
def test_no_cubic_tile_that_fits_costs_less_in_a_large_volume(side):
    network = Network(halo=(44, 44, 44), divisor=(8, 8, 8))
    memory = network.memory_bytes((128,) * 3)

    def flops(tile):
        return tile_choice.volume_flops(tile, (side,) * 3, network)

    cubes = [(n,) * 3 for n in range(8, 512, 8) if network.memory_bytes((n,) * 3) <= memory]
    chosen = choose_tile((side,) * 3, network, memory_bytes=memory)
    assert flops(chosen) <= 1.005 * min(map(flops, cubes))


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(16, 200), st.integers(200, 600), st.integers(200, 600)),
    mebibytes=st.sampled_from([64, 256, 4096]),
)
def test_no_number_of_workers_needs_twice_the_time_of_its_best_tile(shape, mebibytes):
    network = Network(halo=(8, 20, 20))

    def seconds(tile, workers):
        plan = make_plan(shape, network, tile=tile, block=tile)
        cost = reckon(plan, network, layout(), regions=1)
        return cost.flops / cost.tiles * -(-cost.tiles // workers)

    tile = make_plan(shape, network, memory_bytes=mebibytes * 2**20).tile
    for workers in (1, 2, 4, 8):
        own = choose_tile(shape, network, memory_bytes=mebibytes * 2**20, workers=(workers,))
        assert seconds(tile, workers) <= 2 * seconds(own, workers)


@settings(max_examples=30, deadline=None)
@given(shape=st.tuples(st.integers(1, 40), st.integers(1, 400), st.integers(1, 400)))
@example(shape=(19, 345, 91))
@example(shape=(11, 358, 203))
def test_more_memory_never_costs_more_work_averaged_over_numbers_of_workers(shape):
    network = Network(halo=(3, 20, 20), divisor=(1, 16, 16))
    work = []
    for mebibytes in (1, 4, 16, 64, 1024):
        plan = make_plan(shape, network, memory_bytes=mebibytes * 2**20)
        cost = reckon(plan, network, layout(), regions=1)
        tiles = math.prod(-(-n // t) for n, t in zip(shape, plan.tile, strict=True))
        waiting = sum(-(-tiles // workers) * workers / tiles for workers in (1, 2, 4, 8)) / 4
        work.append(cost.flops * waiting)
    assert all(later <= before * 1.001 for before, later in itertools.pairwise(work))


def test_a_tiny_volume_is_one_tile():
    network = Network()
    network.flops = lambda output_shape: math.prod(network.input_shape(output_shape))
    assert len(make_plan((6, 20, 20), network)) == 1


def test_a_requested_block_is_one_tile_where_it_fits():
    plan = make_plan((64, 256, 256), Network(), block=(64, 256, 256))
    assert plan.tile == (64, 256, 256)


def test_too_little_tile_memory_is_refused_with_the_memory_needed():
    with pytest.raises(PlanError, match=r"tile memory .*needs .*; raise --tile-memory"):
        choose_tile((100, 100, 100), Network(), memory_bytes=100)


@pytest.mark.parametrize("core", [(64, 256, 256), (1, 4096, 4096), (7, 9, 11), (3, 1000, 5000)])
def test_a_chunk_divides_its_shard(core):
    chunk = choose_chunk(core)
    assert all(c % n == 0 for c, n in zip(core, chunk, strict=True))
    assert math.prod(chunk) <= 2**20


def test_blocks_remain_many_and_consist_of_whole_tiles():
    block = choose_block((2048, 2048, 2048), (64, 64, 64))
    assert block == (256, 256, 256)
    assert choose_block((24, 512, 512), (1, 512, 512)) == (1, 512, 512)


def test_a_block_larger_than_the_volume_is_clipped():
    plan = make_plan((10, 50, 50), Network(), block=(64, 256, 256))
    assert plan.core == (10, 52, 52)


@pytest.mark.parametrize(("block", "words"), [((64, 100, 102), "try"), ((64, 64), "three")])
def test_an_invalid_block_is_refused_with_advice(block, words):
    with pytest.raises(PlanError, match=words):
        make_plan((100, 500, 500), Network(), block=block)


def test_a_million_blocks_are_priced_without_being_created():
    network = Network(halo=(8, 8, 8), divisor=(4, 4, 4))
    tracemalloc.start()
    start = time.process_time()
    plan = make_plan((6400, 6400, 6400), network, block=(64, 64, 64))
    budget = reckon(plan, network, layout((64, 64, 64)), regions=len(plan.regions()))
    seconds, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert budget.blocks == 10**6
    assert peak < 50 * 2**20, f"{peak} bytes, {seconds} s"


def test_a_tile_that_goes_to_the_device_raw_takes_no_float32_memory_of_the_host():
    network, raw = Network(), Network()
    raw.takes_raw_planes = True
    plan = make_plan((40, 64, 64), network, block=(8, 32, 32), tile=(8, 32, 32))
    on_host, on_device = (
        reckon(plan, one, layout(), regions=1).block_memory_bytes for one in (network, raw)
    )
    assert on_host - on_device == 2 * 4 * layout().channels * math.prod(
        network.input_shape(plan.tile)
    )


def test_the_memory_of_a_tile_is_that_of_the_one_that_needs_most():
    class Sawtooth(Network):
        def memory_bytes(self, output_shape):
            return 10 if output_shape[2] == 32 else 100  # smaller images go through together

    plan = make_plan((8, 64, 40), Sawtooth(), block=(8, 64, 64), tile=(8, 64, 32))
    assert reckon(plan, Sawtooth(), layout(), regions=1).tile_memory_bytes == 100
