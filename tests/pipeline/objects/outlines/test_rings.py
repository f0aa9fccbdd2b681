"""Outlines are exact: filled, they give the pixels of the object, whatever its shape."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pipeline.objects.outlines.pixel_edges import PixelEdges, edges_of
from pipeline.objects.outlines.rings import polygons_of, rings_of


def filled(polygon, shape):
    """Return the pixels whose centres lie in a polygon by the even-odd rule."""
    y, x = np.indices(shape) + 0.5
    inside = np.zeros(shape, bool)
    for ring in polygon:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if x0 == x1:
                inside ^= (min(y0, y1) < y) & (y < max(y0, y1)) & (x0 < x)
    return inside


def signed_area(ring):
    x, y = ring.T.astype(float)
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def polygons(labels):
    return dict(polygons_of(rings_of(edges_of(labels))))


def random_labels(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 14, 2))
    return rng.choice([0, 1, 2, 7], shape, p=rng.dirichlet([1] * 4)).astype(np.uint32)


@pytest.mark.parametrize("first_seed", range(0, 400, 100))
def test_filled_outlines_are_the_objects_and_each_connected_piece_is_one_polygon(first_seed):
    for seed in range(first_seed, first_seed + 100):
        labels = random_labels(seed)
        found = polygons(labels)
        assert set(found) == set(np.unique(labels)) - {0}
        for label, pieces in found.items():
            total = sum(filled(piece, labels.shape).astype(int) for piece in pieces)
            np.testing.assert_array_equal(total, labels == label)
            assert len(pieces) == ndimage.label(labels == label)[1]


@pytest.mark.parametrize("seed", range(60))
def test_rings_never_meet_themselves_and_turn_as_rfc_7946_says(seed):
    for pieces in polygons(random_labels(seed)).values():
        for piece in pieces:
            for number, ring in enumerate(piece):
                assert len(np.unique(ring, axis=0)) == len(ring) >= 4
                assert (signed_area(ring) > 0) == (number == 0)
                step = np.roll(ring, -1, axis=0) - ring
                assert ((step == 0).sum(axis=1) == 1).all()  # along one axis, and then the other
                assert ((step[:, 0] == 0) != (np.roll(step[:, 0], 1) == 0)).all()


@pytest.mark.parametrize(
    ("rows", "polygons_and_holes"),
    [
        (["#"], [0]),
        (["#.", ".#"], [0, 0]),  # touch at a corner
        (["###", "#.#", "###"], [1]),
        (["####", "#.##", "##.#", "####"], [2]),  # two holes that touch at a corner
        (["###.", "#.##", "####"], [1]),
        (["##", "#.", "##"], [0]),
        (["###", "#.#", "##."], [1]),  # the hole touches the outside at a corner
        (["#####", "#...#", "#.#.#", "#...#", "#####"], [1, 0]),  # an island
        (["#####", "##..#", "#.#.#", "#...#", "#####"], [1, 0]),  # it touches the shore
    ],
)
def test_holes_and_touching_corners_are_valid_polygons(rows, polygons_and_holes):
    labels = np.array([[int(pixel == "#") for pixel in row] for row in rows])
    (pieces,) = polygons(labels).values()
    assert sorted(len(piece) - 1 for piece in pieces) == sorted(polygons_and_holes)


def test_strips_have_the_edges_of_the_whole_image():
    labels = random_labels(3)
    whole = rings_of(edges_of(labels))
    for height in (1, 2, 3):
        parts, above = [], None
        for top in range(0, len(labels), height):
            strip = labels[top : top + height]
            is_end = top + height >= len(labels)
            parts.append(edges_of(strip, row_above=above, is_end=is_end).moved(top))
            above = strip[-1]
        rings = rings_of(PixelEdges.joined(parts))
        np.testing.assert_array_equal(rings.starts, whole.starts)
        np.testing.assert_array_equal(rings.edges.x, whole.edges.x)
        np.testing.assert_array_equal(rings.edges.y, whole.edges.y)


def test_an_image_without_objects_has_no_outlines():
    assert polygons(np.zeros((3, 4), int)) == {}
