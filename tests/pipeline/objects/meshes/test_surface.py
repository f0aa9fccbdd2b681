"""Surfaces are closed, look outwards, and enclose the volume of the object."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.objects.meshes.surface import surface_of


def is_closed(surface):
    """Return whether each edge of a triangle has as many partners in the opposite direction."""
    a, b, c = surface.triangles.astype(int).T
    edges = np.concatenate([np.stack(pair, 1) for pair in ((a, b), (b, c), (c, a))])
    there = np.unique(edges, axis=0, return_counts=True)
    back = np.unique(edges[:, ::-1], axis=0, return_counts=True)
    return all(np.array_equal(one, two) for one, two in zip(there, back, strict=True))


def ball(radius):
    places = np.indices((2 * radius + 1,) * 3) - radius
    return (places**2).sum(axis=0) <= radius**2


@pytest.mark.parametrize("seed", range(40))
def test_surfaces_of_any_voxels_are_closed_and_look_outwards(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 8, 3)) < rng.uniform(0.05, 1)
    mask.flat[0] = True
    surface = surface_of(mask, start=(3, -2, 5))
    assert is_closed(surface)
    assert 0 < surface.volume() < 1.1 * mask.sum()


@pytest.mark.parametrize(("radius", "share"), [(4, 0.05), (8, 0.02), (16, 0.005)])
def test_a_ball_has_the_volume_of_its_voxels_nearly(radius, share):
    mask = ball(radius)
    assert surface_of(mask, start=(0, 0, 0)).volume() == pytest.approx(mask.sum(), rel=share)


def test_a_surface_lies_half_a_voxel_around_its_voxels_in_x_y_z():
    vertices = surface_of(np.ones((2, 3, 4), bool), start=(10, 20, 30)).vertices
    np.testing.assert_array_equal(vertices.min(axis=0), (29.5, 19.5, 9.5))
    np.testing.assert_array_equal(vertices.max(axis=0), (33.5, 22.5, 11.5))


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (-1, 1, -1)])
def test_a_placed_surface_still_looks_outwards(signs):
    surface = surface_of(ball(3), start=(0, 0, 0))
    placed = surface.placed(scale=np.array(signs) * (0.5, 2, 3), shift=np.array([7, 8, 9]))
    assert placed.volume() == pytest.approx(3 * surface.volume())
    assert is_closed(placed)
