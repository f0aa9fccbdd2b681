"""The synthetic images of nuclei that the bundled weights are trained on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.nuclei_scene import Appearance, Body, draw_bodies, draw_nuclei, with_gaps
from benchmarks.nuclei_scene.appearance import LARGEST_DIVIDING_SHARE, RADII
from benchmarks.nuclei_scene.bodies import DIMMEST, DIVIDING_BRIGHTNESS
from benchmarks.nuclei_scene.labels import drawn_labels
from benchmarks.nuclei_scene.light import MOST_DEFOCUSED
from benchmarks.nuclei_scene.noise import wide_blur

SHAPES = {2: (96, 128), 3: (16, 48, 56)}


def drawn(seed, dims, **changes):
    """Return grey values, ids and appearance of a small image."""
    rng = np.random.default_rng(seed)
    appearance = dataclasses.replace(Appearance.drawn(rng, dims=dims), **changes)
    return *draw_nuclei(SHAPES[dims], appearance, rng), appearance


def bodies_of(seed, dims, **changes):
    """Return the bodies of a large image with many nuclei."""
    rng = np.random.default_rng(seed)
    few = {"radius": 6.0, "crowding": 1.0, "separation": 0.9, "z_step": 1.0}
    appearance = dataclasses.replace(Appearance.drawn(rng, dims=dims), **few, **changes)
    shape = {2: (200, 200), 3: (50, 70, 70)}[dims]
    return draw_bodies(shape, np.ones(dims), appearance, rng)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_seed_draws_the_same_image_again_and_another_seed_another(dims):
    raw, ids, appearance = drawn(1, dims)
    raw_again, ids_again, appearance_again = drawn(1, dims)
    assert appearance == appearance_again
    np.testing.assert_array_equal(raw, raw_again)
    np.testing.assert_array_equal(ids, ids_again)
    assert (drawn(2, dims)[1] != ids).any()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_image_and_labels_have_the_shape_and_every_label_is_one_connected_piece(seed, dims):
    raw, ids, appearance = drawn(seed, dims, lobes=0.4, crowding=1.5)  # torn outlines
    assert raw.shape == ids.shape == SHAPES[dims]
    assert raw.dtype == (np.uint8 if appearance.full == 255 else np.uint16)
    assert ids.max() > 0
    for number in np.unique(ids[ids > 0]):
        assert ndimage.label(ids == number)[1] == 1


def test_a_nucleus_that_another_one_cuts_in_two_keeps_the_larger_piece():
    appearance = dataclasses.replace(Appearance.drawn(np.random.default_rng(0), dims=2), lobes=0.0)
    kept, cutting = (
        Body(centre=np.array((30, x)), radii=np.array(radii), rotation=np.eye(2)[::side],
             bend=0.0, brightness=1.0)
        for x, radii, side in ((30, (20, 4), -1), (42, (20, 3), 1))
    )  # fmt: skip
    bodies, rng = [kept, cutting], np.random.default_rng(0)
    ids, depth = drawn_labels((60, 60), np.ones(2), bodies, appearance, rng)
    assert ids[30, 30] == 1  # the centre
    assert ids[30, 42] == 2
    assert ids[30, 47] == 0 == depth[30, 47]  # was of the first one
    assert [ndimage.label(ids == number)[1] for number in (1, 2)] == [1, 1]


@pytest.mark.parametrize("dims", [2, 3])
def test_the_share_of_dividing_nuclei_varies_from_image_to_image_within_its_bounds(dims):
    shares = []
    for seed in range(12):
        bodies = bodies_of(seed, dims, dividing=LARGEST_DIVIDING_SHARE)
        cells = max(body.dividing for body in bodies)
        dividing = [body for body in bodies if body.dividing]
        assert {body.dividing for body in dividing} == set(range(1, cells + 1))
        nuclei = len(bodies) - len(dividing) + cells  # an anaphase has two bodies
        assert cells <= LARGEST_DIVIDING_SHARE * nuclei + 1
        shares.append(cells / nuclei)
    assert min(shares) < 0.04 < 0.06 < max(shares)


@pytest.mark.parametrize("dims", [2, 3])
def test_dividing_nuclei_are_brighter_and_smaller_than_the_others(dims):
    bodies = [body for seed in range(6) for body in bodies_of(seed, dims, dividing=0.1)]
    dividing = [body for body in bodies if body.dividing]
    low, high = DIVIDING_BRIGHTNESS
    assert all(low <= body.brightness <= high for body in dividing)
    others = [np.prod(body.radii) for body in bodies if not body.dividing]
    assert np.median([np.prod(body.radii) for body in dividing]) < 0.6 * np.median(others)
    ratios = [body.radii[0] / body.radii[-1] for body in dividing]
    assert max(ratios) > 2.5  # plates
    assert min(ratios) < 1.6  # balls


def test_no_nucleus_divides_where_the_appearance_has_none():
    assert not any(body.dividing for body in bodies_of(0, 2, dividing=0.0))


@pytest.mark.parametrize("dims", [2, 3])
def test_appearances_keep_to_the_sizes_that_the_documents_state(dims):
    appearances = [Appearance.drawn(np.random.default_rng(n), dims=dims) for n in range(200)]
    diameters = [2 * one.radius for one in appearances]
    assert (
        (round(min(diameters)), round(max(diameters))) == (11, 34) == tuple(np.multiply(RADII, 2))
    )
    assert all(one.z_step == 1 if dims == 2 else 1 <= one.z_step <= 3 for one in appearances)
    none = [one for one in appearances if one.dividing == 0]
    assert 0.15 < len(none) / len(appearances) < 0.45
    assert max(one.dividing for one in appearances) <= LARGEST_DIVIDING_SHARE


def test_light_far_out_of_focus_which_is_not_labelled_is_dimmer_than_every_nucleus():
    appearances = [Appearance.drawn(np.random.default_rng(n), dims=2) for n in range(200)]
    assert 0 < max(one.defocused for one in appearances) * MOST_DEFOCUSED < 0.7 * DIMMEST
    bodies = [body for seed in range(4) for body in bodies_of(seed, 2)]
    assert min(body.brightness for body in bodies) >= DIMMEST


def test_the_light_of_a_volume_decays_with_depth():
    changes = {"gradient": 0.0, "vignette": 0.0, "read_noise": 0.0, "crowding": 0.0, "offset": 0.0}
    changes |= {"haze": 0.0, "photons": 1000.0, "background": 0.3, "full": 60000.0, "headroom": 2.0}
    raw, ids, _ = drawn(0, 3, decay=1.0, **changes)
    background = [
        float(np.median(plane[labels == 0])) for plane, labels in zip(raw, ids, strict=True)
    ]
    assert background[-1] < 0.5 * background[0]
    raw, ids, _ = drawn(0, 3, decay=-1.0, **changes)
    assert np.median(raw[0][ids[0] == 0]) < 0.5 * np.median(raw[-1][ids[-1] == 0])


def test_a_bright_nucleus_saturates_where_the_headroom_is_small():
    raw, ids, appearance = drawn(3, 2, headroom=0.3, offset=0.0, full=255.0, vignette=0.0)
    assert (raw[ids > 0] == appearance.full).mean() > 0.2
    raw, ids, appearance = drawn(3, 2, headroom=8.0, offset=0.0, full=255.0, vignette=0.0)
    assert (raw[ids > 0] == appearance.full).mean() < 0.01


def test_touching_nuclei_have_a_gap_in_the_classes_and_others_keep_all_voxels():
    ids = np.zeros((4, 9), np.int32)
    ids[:, 1:4], ids[:, 4:6], ids[1, 7] = 1, 2, 3
    expected = (ids > 0) & ~np.isin(np.arange(9), (3, 4))
    np.testing.assert_array_equal(with_gaps(ids), expected)


def test_a_wide_blur_on_a_coarse_grid_is_close_to_the_blur_itself():
    light = np.zeros((60, 70), np.float32)
    light[20:30, 30:50] = 1
    plain = ndimage.gaussian_filter(light, 9.0)
    assert np.abs(wide_blur(light, 9.0) - plain).max() < 0.1 * plain.max()
    np.testing.assert_allclose(
        wide_blur(light, 2.0), ndimage.gaussian_filter(light, 2.0), atol=1e-6
    )
