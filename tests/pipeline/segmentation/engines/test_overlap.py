"""The same plan over lazy dask arrays."""

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import map_overlap
from pipeline.base.errors import OvertileError
from pipeline.base.geometry import Box
from pipeline.segmentation.engines.overlap import mirrored_array
from unet import UNetPredictor


def predictor_of(path):
    return UNetPredictor(path, precision="fp32", device="cpu")


@pytest.mark.parametrize(
    ("network", "shape", "chunks", "block", "tile"),
    [
        ("2d", (3, 50, 70), (2, 33, 20), (2, 32, 32), (1, 16, 16)),
        ("2d", (1, 37, 90), (1, 37, 90), None, None),
        ("3d", (17, 40, 33), (5, 40, 10), (8, 16, 16), None),
        ("3d", (9, 12, 11), (9, 12, 11), (4, 4, 4), None),  # blocks smaller than the halo
        ("3d-anisotropic", (10, 41, 30), (4, 20, 30), (4, 16, 16), (2, 8, 16)),
    ],
)
def test_lazy_scores_equal_whole_volume_scores(
    network, shape, chunks, block, tile, weights, whole_scores, textured
):
    raw = textured((1, *shape))
    lazy = map_overlap(
        predictor_of(weights(network)), da.from_array(raw[0], chunks=chunks), block=block, tile=tile
    )
    assert isinstance(lazy, da.Array)
    with dask.config.set(scheduler="threads"):
        scores = lazy.compute()
    np.testing.assert_allclose(scores, whole_scores(weights(network), raw), atol=1e-5)


def test_a_plane_gives_scores_of_a_plane(weights, whole_scores, textured):
    raw = textured((1, 1, 60, 50))
    scores = map_overlap(predictor_of(weights("2d")), da.from_array(raw[0, 0], chunks=20))
    assert scores.shape == (3, 60, 50)
    expected = whole_scores(weights("2d"), raw)[:, 0]
    np.testing.assert_allclose(scores.compute(scheduler="sync"), expected, atol=1e-5)


def test_channels_come_first(weights, whole_scores, textured):
    raw = textured((3, 2, 40, 50))
    scores = map_overlap(predictor_of(weights("2d-rgb")), da.from_array(raw, chunks=25))
    expected = whole_scores(weights("2d-rgb"), raw)
    np.testing.assert_allclose(scores.compute(scheduler="sync"), expected, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    low=st.tuples(*[st.integers(0, 9)] * 3),
    high=st.tuples(*[st.integers(0, 9)] * 3),
)
def test_a_lazy_mirror_equals_numpys_reflect(shape, low, high):
    array = np.arange(np.prod(shape)).reshape(1, *shape)
    box = Box(tuple(-n for n in low), tuple(n + h for n, h in zip(shape, high, strict=True)))
    expected = np.pad(array, [(0, 0), *zip(low, high, strict=True)], mode="reflect")
    lazy = mirrored_array(da.from_array(array, chunks=3), box)
    np.testing.assert_array_equal(lazy.compute(scheduler="sync"), expected)


@pytest.mark.parametrize(
    ("x", "options", "words"),
    [
        (da.zeros((2, 3, 40, 40), dtype="uint8"), {}, "2 channels"),
        (da.zeros(40, dtype="uint8"), {}, "1 axes"),
        (da.zeros((3, 40, 40), dtype="uint8"), {"block": (1, 30, 32)}, "divisor"),
    ],
)
def test_an_unsuitable_array_is_refused_in_one_line(x, options, words, weights):
    with pytest.raises(OvertileError, match=words) as caught:
        map_overlap(predictor_of(weights("2d")), x, **options)
    assert "\n" not in str(caught.value)
