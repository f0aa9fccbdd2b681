"""Pictures of objects show each one apart, and their sizes where they are."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pipeline.base.errors import GeometryError
from pipeline.report.histogram import Mark
from pipeline.report.object_picture import objects_picture
from pipeline.report.size_histogram import Bar, size_chart, size_histogram

BARS, MARK = (86, 140, 190), (213, 94, 0)
COLOURS = {1: (255, 0, 0), 2: (0, 255, 0), 2**40: (0, 0, 255)}


def test_every_object_has_its_colour_a_border_and_background_is_the_image():
    labels = np.zeros((30, 40), np.uint64)
    labels[5:20, 5:15], labels[5:20, 15:25], labels[22:29, 30:39] = 1, 2, 2**40
    image = np.random.default_rng(1).integers(0, 256, labels.shape, np.uint8)
    plain = objects_picture(image, np.zeros_like(labels), colour=COLOURS.__getitem__)
    shown = objects_picture(image, labels, colour=COLOURS.__getitem__)
    np.testing.assert_array_equal(shown[labels == 0], plain[labels == 0])
    for label, colour in COLOURS.items():
        strongest = int(np.argmax(colour))
        others = [channel for channel in range(3) if channel != strongest]
        inside = shown[labels == label].astype(int)
        assert (inside[:, strongest] >= inside[:, others].max(axis=1)).all()
    touching = shown[12, 14:16].astype(int)
    assert (np.abs(touching - [COLOURS[1], COLOURS[2]]) < 20).all(), "two lines where they touch"
    assert np.abs(shown[12, 10].astype(int) - COLOURS[1]).max() > 60, "inside, the image shows"


def test_an_image_of_another_shape_is_refused():
    with pytest.raises(GeometryError, match="expected one shape"):
        objects_picture(np.zeros((3, 4)), np.zeros((4, 3), int), colour=COLOURS.__getitem__)


def columns(picture, colour):
    return np.flatnonzero((picture == colour).all(axis=2).any(axis=0))


def test_sizes_are_shown_on_a_logarithmic_scale_with_areas_as_counts():
    bars = [Bar(1, 10, 30), Bar(10, 100, 0), Bar(100, 1000, 15), Bar(1000, 100_000, 30)]
    picture = size_histogram(bars, title="t", unit="µm³", marks=[Mark(100, "m")], width=1000)
    blue = (picture == BARS).all(axis=2)
    line = columns(picture, MARK).mean()
    assert line == pytest.approx(20 + 960 * 2 / 5, abs=1.5)
    filled = columns(picture, BARS)
    assert not filled[(filled > 20 + 193) & (filled < 20 + 383)].size, "an empty bar is empty"
    first, _, third, fourth = (blue[:, 20 + 192 * n : 20 + 192 * (n + 1)].sum() for n in range(4))
    last = blue[:, 20 + 192 * 3 :].sum()
    assert third == pytest.approx(first / 2, rel=0.1)
    assert last == pytest.approx(first, rel=0.1)
    assert fourth < last


def test_a_drawing_of_sizes_has_the_areas_and_marks_of_the_picture():
    bars = [Bar(1, 10, 30), Bar(10, 100, 0), Bar(100, 1000, 15), Bar(1000, 100_000, 30)]
    marks = [Mark(100, "<m>"), Mark(101, "hidden")]
    chart = size_chart(bars, title="t", unit="µm³", marks=marks, caption="")
    found = re.findall(r'class="bar" x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="([\d.]+)',
                       chart.svg)  # fmt: skip
    places = [tuple(map(float, one)) for one in found]
    x = places[0][0]
    first, third, last = ((width + 1) * height for _, width, height in places)
    assert (first, third) == pytest.approx((last, last / 2), rel=0.02)
    across = 760 - 2 * x
    assert places[1][0] == pytest.approx(x + across * 2 / 5, abs=0.2)
    (line, _) = re.findall(r'class="mark" d="M([\d.]+)', chart.svg)
    assert float(line) == pytest.approx(places[1][0], abs=0.2)
    assert "&lt;m&gt;" in chart.svg
    assert "hidden<" not in chart.svg, "labels do not overlap"
    assert "µm³" in chart.svg


def test_one_size_alone_has_a_histogram():
    assert "<rect" in size_chart([Bar(3, 4, 9)], title="", unit="", marks=[], caption="").svg
    picture = size_histogram([Bar(3, 4, 9)], title="t", unit="voxels", marks=[], width=300)
    assert len(columns(picture, BARS)) > 250
