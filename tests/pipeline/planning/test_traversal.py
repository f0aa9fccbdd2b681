"""The plan takes tiles or sweeps, whichever needs fewer operations in the memory that there is."""

import math

import pytest

from pipeline.base.errors import PlanError
from pipeline.base.geometry import Shape
from pipeline.planning import swept
from pipeline.planning.budget import Layout, reckon
from pipeline.planning.chunk_fit import InputLayout
from pipeline.planning.tile_choice import volume_flops
from pipeline.planning.traversal import WORTH_SWEEPING, Given, choose_plan

INPUT = InputLayout(chunk_zyx=(64, 64, 64), voxel_bytes=1)


class Network:
    """A network of a million operations per input voxel; a sweep keeps 60 planes of its input."""

    halo = (44, 44, 44)
    divisor = (8, 8, 8)

    def __init__(self, *, is_swept: bool = True) -> None:
        self.is_swept = is_swept

    def input_shape(self, output_shape):
        return tuple(n + 88 for n in output_shape)

    def flops(self, output_shape):
        return 10**6 * math.prod(self.input_shape(output_shape))

    def memory_bytes(self, output_shape):
        return 500 * math.prod(self.input_shape(output_shape))

    def sweep_memory_bytes(self, output_shape):
        _, y, x = self.input_shape(output_shape)
        return 500 * 60 * y * x if self.is_swept else None


def chosen(shape: Shape, *, given=None, memory_bytes=2**31, network=None):
    return choose_plan(
        given or Given(), shape, network or Network(), memory_bytes=memory_bytes, layout=INPUT
    )


def test_a_large_volume_is_swept_with_fewer_operations_in_the_same_memory():
    network, shape = Network(), (4000,) * 3
    layout = Layout(channels=1, itemsize=1, chunk_zyx=(64,) * 3,
                    output_bytes_per_voxel=1, files_per_block=1)  # fmt: skip
    plans = [
        chosen(shape, given=Given(traversal=traversal)).plan for traversal in ("auto", "tiles")
    ]
    sweeps, tiles = (reckon(plan, network, layout, regions=1) for plan in plans)
    assert [plan.traversal for plan in plans] == ["sweep", "tiles"]
    assert sweeps.flops < 0.7 * tiles.flops
    assert max(sweeps.tile_memory_bytes, tiles.tile_memory_bytes) <= 2**31


@pytest.mark.parametrize("workers", [1, 2, 5, 16])
@pytest.mark.parametrize("shape", [(256, 256, 256), (100, 300, 700)])
def test_a_plan_for_known_workers_takes_them_less_time_than_one_for_any(workers, shape):
    network = Network()

    def seconds(given):
        plan = chosen(shape, given=given, network=network).plan
        tiles = math.prod(-(-n // t) for n, t in zip(shape, plan.tile, strict=True))
        work = volume_flops(plan.tile, shape, network)
        return work / tiles * -(-tiles // workers)

    known = seconds(Given(workers=(workers,)))
    assert known <= seconds(Given()) / WORTH_SWEEPING  # a sweep must save more than that


@pytest.mark.parametrize("traversal", ["tiles", "sweep"])
@pytest.mark.parametrize("workers", [1, 2, 4, 16])
def test_every_worker_gets_a_tile_and_no_halo_is_computed_for_workers_that_do_not_exist(
    workers, traversal
):
    given = Given(workers=(workers,), traversal=traversal)
    plan = chosen((256,) * 3, given=given, memory_bytes=2**40).plan
    assert len(plan) == workers


def test_less_memory_shortens_a_sweep_in_y_or_x():
    columns = []
    for power in (31, 30, 29):
        z, y, x = chosen(
            (4000,) * 3, given=Given(traversal="sweep"), memory_bytes=2**power
        ).plan.tile
        assert z >= 200
        columns.append(y * x)
    assert columns == sorted(columns, reverse=True)
    assert columns[0] > 2 * columns[-1]


def test_a_swept_tile_is_a_block_that_a_worker_can_hold_and_finish(monkeypatch):
    plan = chosen((4000,) * 3).plan
    assert plan.tile == plan.core
    assert plan.core[0] <= swept.DEEPEST
    assert math.prod(plan.core) <= swept.MOST_VOXELS
    assert Network().flops(plan.tile) <= swept.LONG_FLOPS or math.prod(plan.core) <= 2**24


def test_a_network_that_takes_long_gets_blocks_near_256_cubed():
    network = Network()
    network.flops = lambda shape: 10**8 * math.prod(network.input_shape(shape))
    voxels = math.prod(chosen((4000,) * 3, network=network).plan.core)
    assert 2**23 < voxels <= 2**24


@pytest.mark.parametrize(
    ("given", "traversal"),
    [
        (Given(tile=(64, 64, 64)), "tiles"),
        (Given(tile=(64, 64, 64), traversal="sweep"), "sweep"),
        (Given(block=(128, 256, 256), traversal="sweep"), "sweep"),
        (Given(block=(128, 256, 256), traversal="tiles"), "tiles"),
    ],
)
def test_what_is_given_is_kept(given, traversal):
    plan = chosen((1000,) * 3, given=given).plan
    assert plan.traversal == traversal
    assert given.tile in (None, plan.tile)
    assert given.block in (None, plan.core)


def test_where_no_tile_fits_the_volume_is_swept():
    choice = chosen((1000,) * 3, memory_bytes=Network().sweep_memory_bytes((1, 16, 16)))
    assert choice.plan.traversal == "sweep"
    assert "nothing else fits" in choice.reason


def test_a_network_that_cannot_be_swept_gets_tiles():
    network = Network(is_swept=False)
    assert chosen((1000,) * 3, network=network).plan.traversal == "tiles"
    with pytest.raises(PlanError, match="cannot be swept"):
        chosen((1000,) * 3, network=network, given=Given(traversal="sweep"))


def test_a_box_off_the_pooling_grid_is_swept_from_the_grid():
    plan = choose_plan(
        Given(traversal="sweep"), (300, 100, 100), Network(),
        memory_bytes=2**31, layout=INPUT, origin=(3, 5, 7),
    ).plan  # fmt: skip
    for block in plan.blocks():
        for tile in plan.tiles(block.core):
            assert all((o + a) % 8 == 0 for o, a in zip(plan.origin, tile.start, strict=True))
            assert all(n <= t for n, t in zip(tile.shape, plan.tile, strict=True))
