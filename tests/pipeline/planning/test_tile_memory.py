"""A tile takes as little of the memory that a worker can spare as hardly costs more work."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import PlanError
from pipeline.planning.tile_choice import SmallestTileError
from pipeline.planning.tile_memory import (
    MOST_BYTES,
    SPARED,
    WORTH,
    WorkerRoom,
    choose_memory,
    spared_text,
)

GIB = 2**30
BLOCKS = GIB // 2
"""Memory of a worker besides its tiles."""


@dataclass(frozen=True)
class Plan:
    work: float
    tile_bytes: int

    @property
    def worker_bytes(self):
        return BLOCKS + self.tile_bytes


def plan_for(memory_bytes):
    """Return a plan whose halos weigh less in larger tiles."""
    return Plan(work=1 + GIB / 8 / memory_bytes, tile_bytes=2 * memory_bytes)


@given(memory=st.integers(2 * GIB, 2**45))
def test_the_least_memory_is_chosen_that_hardly_costs_more_work(memory):
    room = WorkerRoom(memory_bytes=memory)
    plan, tile = choose_memory(plan_for, room)
    assert plan == plan_for(tile)
    assert plan.worker_bytes <= SPARED * memory
    spared = (SPARED * memory - BLOCKS) / 2
    most = min(MOST_BYTES, spared / 1.5)  # sizes are that far apart
    assert plan.work <= WORTH * plan_for(most).work
    smaller = plan_for(tile / 2)
    assert smaller.work > WORTH * plan_for(min(MOST_BYTES, spared)).work


def test_tiles_on_a_gpu_take_its_memory_and_not_the_worker_s():
    room = WorkerRoom(memory_bytes=GIB, device_bytes=16 * GIB)
    plan, tile = choose_memory(plan_for, room)
    assert plan.worker_bytes > GIB
    assert GIB < tile <= 12 * GIB
    assert "GPU" in spared_text(tile, room)


@given(memory=st.integers(16 * GIB, 2**45))
def test_much_memory_is_not_taken_however_much_it_would_save(memory):
    def never_enough(memory_bytes):
        return Plan(work=2**50 / memory_bytes, tile_bytes=memory_bytes)

    rooms = (WorkerRoom(memory_bytes=memory), WorkerRoom(memory_bytes=GIB, device_bytes=memory))
    for room in rooms:
        assert choose_memory(never_enough, room)[1] == MOST_BYTES


def test_where_no_plan_fits_the_smallest_is_returned_for_the_error_to_name():
    _, tile = choose_memory(plan_for, WorkerRoom(memory_bytes=GIB // 2))
    assert tile <= GIB // 2


def test_a_network_whose_smallest_tile_needs_more_than_can_be_spared_is_refused():
    def too_large(memory_bytes):
        raise SmallestTileError(memory_bytes, smallest=(8, 8, 8), need_bytes=3 * GIB)

    with pytest.raises(PlanError, match=r"can spare 768 MiB .* 8×8×8, needs 3.00 GiB"):
        choose_memory(too_large, WorkerRoom(memory_bytes=GIB))


def test_sizes_below_what_the_smallest_tile_needs_are_left_out():
    def at_least(memory_bytes):
        if memory_bytes < GIB:
            raise SmallestTileError(memory_bytes, smallest=(8, 8, 8), need_bytes=GIB)
        return Plan(work=1, tile_bytes=memory_bytes)

    assert choose_memory(at_least, WorkerRoom(memory_bytes=16 * GIB))[1] == GIB


@given(memory=st.integers(8, 2**50))
def test_a_room_hardly_depends_on_what_else_runs(memory):
    rounded = WorkerRoom.rounded(memory).memory_bytes
    assert 0.75 * memory < rounded <= memory
    assert WorkerRoom.rounded(rounded).memory_bytes == rounded
