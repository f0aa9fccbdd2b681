"""A histogram shows every value, and marks where they are."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.report.histogram import Band, Mark, histogram_picture

MARK, BAND, BARS = (213, 94, 0), (205, 228, 244), (120, 130, 145)


def columns(picture, colour):
    """Return the columns that hold a colour."""
    return np.flatnonzero((picture == colour).all(axis=2).any(axis=0))


@pytest.mark.parametrize(
    "values",
    [
        np.arange(256, dtype="u1"),
        np.array([7], "u2"),
        np.array([], "u1"),
        np.array([np.nan, 1, 2, np.inf], "f4"),
        np.array([np.nan], "f4"),
        np.array([-1e30, 1e30], "f8"),
    ],
    ids=["all", "one", "none", "NaN", "only NaN", "wide"],
)
def test_marks_far_from_the_values_lie_inside_the_picture(values):
    for low, high in ((0, 255), (-1e6, 1e6), (7, 7)):
        picture = histogram_picture(
            values, title="t", marks=[Mark(low, "0"), Mark(high, "1")], band=None, width=300
        )
        assert picture.shape[1] == 300
        assert len(columns(picture, MARK))


def test_values_marks_and_band_are_at_their_places():
    values = np.repeat(np.arange(50, 101), 9)
    picture = histogram_picture(
        values, title="t", marks=[Mark(0, "0"), Mark(200, "1")],
        band=Band(100, 125, 150, "training"), width=1000,
    )  # fmt: skip
    line = columns(picture[60:70], MARK)
    first, last = line[0], line[-1]

    def value_at(column):
        return (column - first) / (last - first) * 200

    bars, band = columns(picture[120:160], BARS), columns(picture[60:100], BAND)
    assert value_at(bars[0]) == pytest.approx(50, abs=1.5)
    assert value_at(bars[-1]) == pytest.approx(100, abs=1.5)
    assert value_at(band[0]) == pytest.approx(100, abs=1.5)
    assert value_at(band[-1]) == pytest.approx(150, abs=1.5)
    whole = np.ptp(bars) + 1
    assert len(bars) == whole, "evenly spread integers leave no gap between bars"
