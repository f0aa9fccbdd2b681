"""The laws of the default network and patch: they fit the volumes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import TrainingError
from unet import UNetConfig
from unet.training.suggest import (
    GPU_BATCH,
    PATCH_VOXELS,
    fitting_batch,
    settled_core,
    suited_network,
)

SHAPES = st.lists(st.tuples(*[st.integers(1, 700)] * 3), min_size=1, max_size=3)


def networks():
    return st.builds(
        UNetConfig,
        dims=st.sampled_from([2, 3]),
        base_channels=st.just(4),
        levels=st.integers(1, 5),
        classes=st.just(2),
    )


def own_axes(network, core):
    return core[3 - network.dims :]


@given(network=networks(), shapes=SHAPES)
def test_a_patch_is_a_valid_output_that_fits_every_volume(network, shapes):
    try:
        core = settled_core(network, None, shapes)
    except TrainingError:
        least = [min(sizes) for sizes in zip(*shapes, strict=True)][3 - network.dims :]
        smallest = network.output_shape(network.input_shape((1,) * network.dims))
        assert any(size > most for size, most in zip(smallest, least, strict=True))
        return
    own = own_axes(network, core)
    assert network.output_shape(network.input_shape(own)) == own
    assert all(size <= most for shape in shapes for size, most in zip(core, shape, strict=True))
    assert core[: 3 - network.dims] == (1,) * (3 - network.dims)
    assert math.prod(own) <= PATCH_VOXELS[network.dims]


@given(network=networks(), size=st.integers(40, 400))
def test_the_default_patch_is_as_large_as_allowed(network, size):
    core = own_axes(network, settled_core(network, None, [(size,) * 3]))
    larger = [n + step for n, step in zip(core, network.divisor, strict=True)]
    assert max(larger) > size or math.prod(larger) > 0.9 * PATCH_VOXELS[network.dims]


@given(network=networks(), sizes=st.lists(st.integers(1, 300), min_size=3, max_size=3))
def test_a_requested_patch_is_rounded_up_to_the_next_valid_output(network, sizes):
    requested = tuple(sizes[: network.dims])
    core = own_axes(network, settled_core(network, requested, [(1000,) * 3]))
    for size, wanted, step in zip(core, requested, network.divisor, strict=True):
        assert wanted <= size < wanted + step
    assert network.output_shape(network.input_shape(core)) == core


@given(network=networks(), beyond=st.integers(1, 50))
def test_a_patch_larger_than_the_smallest_volume_is_refused(network, beyond):
    shapes = [(600, 600, 600), (600, 100, 600)]
    with pytest.raises(TrainingError, match="choose at most"):
        settled_core(network, (16,) * (network.dims - 2) + (100 + beyond, 16), shapes)


@given(shapes=SHAPES, z=st.floats(0.1, 100), plane=st.floats(0.1, 100))
def test_slices_are_learnt_one_by_one_where_they_are_few_or_far_apart(shapes, z, plane):
    network = suited_network(shapes, (z, plane, plane), channels=2, classes=3)
    few = min(shape[0] for shape in shapes) < 16
    assert network.dims == (2 if few or z / plane >= 3 else 3)
    assert (network.in_channels, network.classes) == (2, 3)
    if network.dims == 3:
        z_halo, y_halo, x_halo = network.halo
        assert y_halo == x_halo
        assert (z_halo < y_halo) == (z / plane >= 1.5)


@given(
    network=networks(),
    memory=st.integers(1, 10**12),
    ranks=st.integers(1, 16),
    size=st.integers(8, 64),
)
def test_a_batch_is_the_same_for_every_rank_and_grows_with_memory(network, memory, ranks, size):
    core = settled_core(network, (size,) * network.dims, [(1000,) * 3])
    batch = fitting_batch(network, core, memory_bytes=memory, ranks=ranks)
    assert batch % ranks == 0
    assert 1 <= batch // ranks <= GPU_BATCH
    assert batch <= fitting_batch(network, core, memory_bytes=2 * memory, ranks=ranks)
    elements = network.peak_activation_elements(network.input_shape(own_axes(network, core)))
    assert batch == ranks or batch // ranks * elements * 2 < memory
