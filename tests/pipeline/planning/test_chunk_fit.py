"""Blocks suit the input's chunks where reading costs more than computing, and a note says so."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.errors import PlanError
from pipeline.base.geometry import Box
from pipeline.planning.budget import Layout, reckon
from pipeline.planning.chunk_fit import InputLayout, chunk_note, voxels_in_whole_chunks
from pipeline.planning.make_plan import make_plan
from pipeline.planning.tile_choice import BLOCK_VOXELS
from pipeline.segmentation.prepare import prepare
from pipeline.segmentation.request import SegmentRequest
from unet import UNetPredictor

SHAPE = (500, 2048, 2048)
PLANES, CUBES, ONE = (1, 2048, 2048), (64, 64, 64), SHAPE


class Network:
    """A network of known cost, 3-D, with 100 bytes of memory per input voxel."""

    halo, divisor = (8, 8, 8), (2, 2, 2)

    def __init__(self, flops_per_voxel):
        self.flops_per_voxel = flops_per_voxel

    def input_shape(self, output_shape):
        return tuple(n + n % 2 + 16 for n in output_shape)

    def flops(self, output_shape):
        return self.flops_per_voxel * math.prod(self.input_shape(output_shape))

    def memory_bytes(self, output_shape):
        return 100 * math.prod(self.input_shape(output_shape))


LIGHT, HEAVY = Network(10_000), Network(3_000_000)


def planned(network, chunk, **sizes):
    layout = InputLayout(chunk_zyx=chunk, voxel_bytes=2)
    plan = make_plan(SHAPE, network, layout=layout, **sizes)
    stored = Layout(
        channels=1, itemsize=2, chunk_zyx=chunk, output_bytes_per_voxel=1, files_per_block=1
    )
    budget = reckon(plan, network, stored, regions=1)
    return plan, budget, chunk_note(plan, budget, network=network, layout=layout)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    core=st.tuples(*[st.integers(1, 20)] * 3),
    halo=st.tuples(*[st.integers(0, 9)] * 3),
    chunk=st.tuples(*[st.integers(1, 50)] * 3),
)
def test_the_voxels_of_whole_chunks_equal_a_count_over_every_block(shape, core, halo, chunk):
    whole, total = Box.of_shape(shape), 0
    for index in np.ndindex(*(-(-n // c) for n, c in zip(shape, core, strict=True))):
        rows = list(zip(index, core, halo, shape, chunk, strict=True))
        start = tuple(max(0, i * c - h) // k * k for i, c, h, _, k in rows)
        stop = tuple(-(-min(n, i * c + c + h) // k) * k for i, c, h, n, k in rows)
        total += Box(start, stop).clipped_to(whole).voxels
    assert voxels_in_whole_chunks(shape, core, halo, chunk) == total


def test_blocks_follow_planes_where_reading_would_cost_more_than_computing():
    plain = make_plan(SHAPE, LIGHT)
    plan, budget, _ = planned(LIGHT, PLANES)
    before = voxels_in_whole_chunks(SHAPE, plain.core, LIGHT.halo, PLANES) / math.prod(SHAPE)
    assert before > 20
    assert budget.read_amplification < before / 3
    assert math.prod(plan.core) <= BLOCK_VOXELS
    assert len(plan) >= 64
    assert budget.tile_memory_bytes <= 2**31


@pytest.mark.parametrize(
    ("network", "chunk"), [(HEAVY, PLANES), (HEAVY, CUBES), (LIGHT, (1, 1, 1))]
)
def test_blocks_are_those_of_the_network_where_reading_is_cheap(network, chunk):
    assert planned(network, chunk)[0] == make_plan(SHAPE, network)


@pytest.mark.parametrize("chunk", [PLANES, ONE])
def test_sizes_that_the_user_gives_are_kept(chunk):
    plan, _, note = planned(LIGHT, chunk, block=(64, 128, 128))
    assert plan.core == (64, 128, 128)
    assert note


def test_chunks_that_are_read_often_are_noted_with_figures_and_a_block_that_helps():
    _, budget, note = planned(HEAVY, PLANES)
    assert f"is read {budget.read_amplification:.1f} times" in note
    block, times = re.search(r"use --block (\S+) \((\S+) times\)", note).groups()
    plan, better, _ = planned(HEAVY, PLANES, block=tuple(map(int, block.split(","))))
    assert plan.core == tuple(map(int, block.split(",")))
    assert better.read_amplification == pytest.approx(float(times), abs=0.06)
    assert better.read_amplification < budget.read_amplification / 2


def test_chunks_that_no_block_suits_are_noted_with_the_advice_to_rewrite_the_input():
    note = planned(HEAVY, ONE, block=(500, 512, 256))[2]
    assert "use --block" not in note
    assert "rewrite the input in smaller chunks" in note


def test_chunks_that_are_read_seldom_are_not_noted():
    assert planned(HEAVY, CUBES)[2] is None


def test_the_memory_of_a_worker_counts_the_chunks_that_are_open():
    gibibytes = [planned(HEAVY, chunk)[1].worker_memory_bytes / 2**30 for chunk in (CUBES, ONE)]
    whole_chunk = math.prod(ONE) * 2 / 2**30
    assert 3 * whole_chunk < gibibytes[1] - gibibytes[0] < 6 * whole_chunk


def test_the_plan_of_a_volume_of_large_chunks_states_the_note(tmp_path, weights):
    zarr.create_array(
        tmp_path / "in.zarr", shape=(64, 2048, 2048), chunks=(1, 2048, 2048), dtype="u2"
    )
    request = SegmentRequest(
        input=tmp_path / "in.zarr", output=tmp_path / "out.zarr", block=(64, 64, 64)
    )
    prepared = prepare(request, UNetPredictor(weights("3d")))
    assert any("1×2048×2048 voxels, is read " in note for note in prepared.notes)


def test_too_little_tile_memory_is_refused_for_chunks_of_any_shape():
    with pytest.raises(PlanError, match="raise --tile-memory"):
        planned(LIGHT, PLANES, memory_bytes=1000)
