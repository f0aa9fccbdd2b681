"""Planes of a volume of any size: little is read, and proportions are those of the volume."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.geometry import Box
from pipeline.report.plane_pictures import PlaneLayers, tiles_of
from pipeline.report.planes import LONGEST, MOST_BYTES, Layer, Level, choose_view, planes_of

SIDE = 300


def never(box):
    raise AssertionError("a plan reads nothing")


def pyramid(shape, chunk, *, voxel_bytes=1, levels=None, read=never):
    """Return a layer with levels of half the size each, down to 256 voxels."""
    shapes = [shape]
    while max(shapes[-1]) > 256 and (levels is None or len(shapes) < levels):
        shapes.append(tuple(max(1, -(-n // 2)) for n in shapes[-1]))
    return Layer(
        levels=tuple(
            Level(shape=one, chunk=chunk, voxel_bytes=voxel_bytes, read=read) for one in shapes
        )
    )


sizes = st.integers(1, 200_000)
spacings = st.sampled_from([0.004, 0.05, 0.3, 1.0, 2.5])


@given(
    st.tuples(sizes, sizes, sizes), st.tuples(*[st.integers(1, 512)] * 3),
    st.tuples(spacings, spacings, spacings), st.sampled_from([None, 1, 3]),
    st.sampled_from(["XY", "XZ", "YZ"]), st.sampled_from([1, 4, 255]),
)  # fmt: skip
def test_little_is_read_whatever_the_size_and_the_picture_keeps_the_proportions(
    shape, chunk, spacing, levels, name, voxel_bytes
):
    raw = pyramid(shape, chunk, levels=levels)
    scores = pyramid(shape, (64, 64, 64), voxel_bytes=voxel_bytes)
    around = Box.of_shape(shape)
    view = choose_view(
        name, (raw, scores), around=around, spacing=spacing, spacing_um=spacing, side=SIDE
    )
    if view is None:
        assert any(  # a single chunk is more than a picture may read, or some of the input's are
            layer.levels[0].bytes_of(Box((0, 0, 0), tuple(min(65, n) for n in shape)))
            > MOST_BYTES / 8
            for layer in (raw, scores)
        )
        return
    assert around.contains(view.box)
    assert view.box.shape[view.normal] == 1
    for layer, number in zip((raw, scores), view.levels, strict=True):
        level = layer.levels[number]
        box = layer.box_at(view.box, number)
        assert Box.of_shape(level.shape).contains(box)
        assert level.bytes_of(box) <= MOST_BYTES
    assert max(view.shape) <= SIDE
    rows, columns = view.rows_and_columns
    height, width = view.box.shape[rows] * spacing[rows], view.box.shape[columns] * spacing[columns]
    assert 1 / LONGEST / 1.5 <= height / width <= 1.5 * LONGEST or min(view.box.shape) == 1
    per_pixel = max(height, width) / max(view.shape)
    assert view.shape == pytest.approx((height / per_pixel, width / per_pixel), abs=1)
    assert view.pixel_um == pytest.approx(width / view.shape[1])


def test_a_huge_volume_is_shown_whole_from_a_coarse_level():
    layer = pyramid((40_000, 40_000, 40_000), (64, 64, 64))
    view = choose_view(
        "XZ", (layer,), around=Box.of_shape((40_000,) * 3), spacing=(1, 1, 1),
        spacing_um=(0.1, 0.1, 0.1), side=SIDE,
    )  # fmt: skip
    assert view.box == Box((0, 19_999, 0), (40_000, 20_000, 40_000))
    assert layer.levels[view.levels[0]].shape[0] in range(SIDE // 2, 4 * SIDE)
    assert view.shape == (SIDE, SIDE)


def test_a_flat_image_has_the_plane_xy_alone():
    assert planes_of(Box.of_shape((1, 900, 900))) == ("XY",)
    assert planes_of(Box.of_shape((2, 900, 900))) == ("XY", "XZ", "YZ")


@pytest.mark.parametrize("name", ["XY", "XZ", "YZ"])
def test_every_picture_of_a_plane_shows_the_same_voxels(name):
    """A ball in a volume of anisotropic voxels is round in raw, classes and objects."""
    spacing, shape = (4.0, 1.0, 1.0), (25, 100, 100)
    z, y, x = np.indices(shape)
    ball = ((z - 12) * 4.0) ** 2 + (y - 50) ** 2 + (x - 50) ** 2 < 40**2
    labels = ball.astype(np.uint8)

    def layer(array):
        def read(box):
            return array[(slice(None), *box.slices)]

        return Layer(levels=(Level(shape=shape, chunk=shape, voxel_bytes=1, read=read),))

    layers = PlaneLayers(
        raw=layer(labels[None] * 200), classes=layer(labels[None]), objects=layer(labels[None])
    )
    view = choose_view(
        name, layers.all, around=Box.of_shape(shape), spacing=spacing, spacing_um=spacing, side=SIDE
    )
    raw, classes, overlay, objects = tiles_of(layers, view, colour=lambda _: (255, 0, 0))
    assert [tile.title for tile in (raw, classes, overlay, objects)] == [
        "raw", "classes", "overlay", "objects",
    ]  # fmt: skip
    assert all(name in tile.alt for tile in (raw, classes, overlay, objects))
    inside = raw.picture[..., 0] > 128
    assert inside.mean() == pytest.approx(math.pi * 40**2 / 100**2, rel=0.1)
    high, wide = np.ptp(np.nonzero(inside), axis=1) + 1
    assert high == pytest.approx(wide, abs=8)
    orange = (classes.picture == (230, 159, 0)).all(axis=2)
    np.testing.assert_array_equal(orange, inside)
    assert (objects.picture[..., 0] > objects.picture[..., 2]).sum() == inside.sum()
