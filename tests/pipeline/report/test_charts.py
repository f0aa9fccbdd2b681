"""Charts and words of a report state what was counted."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pipeline.report.block_map import MOST_CELLS, STATES, block_map
from pipeline.report.charts import bar_chart
from pipeline.report.sureness import (
    MOST_CLASSES,
    ScoreCounts,
    class_scores_chart,
    percent,
    sureness_chart,
    sureness_text,
)
from pipeline.report.throughput_chart import throughput_chart

NAMES = [name for name, _ in STATES]


def numbers(svg, kind, attribute):
    return [float(one) for one in re.findall(rf'class="{kind}"[^>]*? {attribute}="([-\d.]+)"', svg)]


def test_bars_are_as_high_as_their_values():
    chart = bar_chart([1, 4, 0, 2], title="t", caption="", alt="a", x_labels=[], y_label="4")
    heights = np.array(numbers(chart.svg, "bar", "height"))
    np.testing.assert_allclose(heights / heights.max(), [0.25, 1, 0, 0.5], atol=0.01)


@pytest.mark.parametrize("dtype", ["u1", "f2", "f4"])
def test_shares_of_sure_and_undecided_voxels_are_counted_and_unsegmented_ones_left_out(dtype):
    first = np.array([1.0, 0.95, 0.8, 0.72, 0.6, 0.52, 0.5, 0.08, 0.0])
    scores = np.stack([first, 1 - first])[:, None, None]
    scores[:, 0, 0, -1] = 0
    stored = np.rint(scores * 255).astype(dtype) if dtype == "u1" else scores.astype(dtype)
    counts = ScoreCounts.of(stored)
    assert counts.voxels == 8
    assert counts.share(0.9) == 3 / 8
    assert counts.share(0.7, 0.9) == 2 / 8
    assert counts.share(0, 0.7) == 3 / 8
    assert "in 38 % of the voxels" in sureness_text(counts)
    chart = sureness_chart(counts + counts, classes=2, is_sample=True)
    assert "16 voxels, a sample" in chart.caption
    assert np.count_nonzero(numbers(chart.svg, "bar", "height")) >= 5


@pytest.mark.parametrize("dtype", ["u1", "f2", "f4"])
def test_each_class_has_a_histogram_of_all_its_scores(dtype):
    high = np.array([1.0, 0.9, 0.9, 0.9, 0.3, 0.3, 0.0, 0.0])
    low = np.array([0.0, 0.1, 0.1, 0.1, 0.6, 0.6, 1.0, 0.0])
    scores = np.stack([high, low, np.zeros(8)])[:, None, None]
    stored = np.rint(scores * 255).astype(dtype) if dtype == "u1" else scores.astype(dtype)
    counts = ScoreCounts.of(stored)
    names = ("inside", "<b>", "none")
    chart = class_scores_chart(counts + counts, names, is_sample=False)
    heights = np.array(numbers(chart.svg, "bar", "height")).reshape(3, -1)
    shares = heights**2 / (heights**2).sum(axis=1, keepdims=True)
    bars = heights.shape[1]
    for row, values in zip(shares, (high, low, np.zeros(8)), strict=True):
        kept = values[:7]  # the last voxel has no score at all: it was not segmented
        expected, _ = np.histogram(np.rint(kept * 255), bars, (0, 256))
        np.testing.assert_allclose(row, expected / 7, atol=0.01)
    assert "inside: 0.5 or more in 57 %" in chart.svg
    assert "&lt;b&gt;: 0.5 or more in 43 %" in chart.svg
    assert "14 voxels by" in chart.caption


def test_many_classes_have_histograms_of_the_first_ones():
    counts = ScoreCounts.of(np.full((20, 1, 2, 2), 13, np.uint8))
    chart = class_scores_chart(counts, [f"class {n}" for n in range(20)], is_sample=True)
    assert chart.svg.count("0.5 or more") == 2 * MOST_CLASSES, "each in the drawing and its words"
    assert f"The first {MOST_CLASSES} of 20 classes" in chart.caption


def test_shares_in_percent_make_little_not_nothing_and_much_not_all():
    assert [percent(share) for share in (0, 1e-6, 0.004, 0.2, 0.9999, 1)] == [
        "0 %", "less than 0.1 %", "0.4 %", "20 %", "more than 99.9 %", "100 %",
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [(1, 3, 5), (4, 3, 5), (7, 300, 1000)])
def test_a_block_that_was_set_aside_shows_in_every_view_however_many_blocks_there_are(shape):
    ranks = np.full(shape, NAMES.index("done"), np.uint8)
    place = tuple(size - 1 for size in shape)
    ranks[place] = NAMES.index("aside")
    counts = {"done": ranks.size - 1, "aside": 1}
    chart = block_map(ranks, counts=counts, spacing=(1, 1, 1))
    views = 1 if shape[0] == 1 else 2
    assert chart.svg.count('class="cell aside"') == views + 1, "once in each view and the legend"
    assert chart.svg.count("<rect") < 2 * MOST_CELLS**2 + 10
    assert "1 block set aside: failed" in chart.svg
    assert f"{ranks.size - 1:,} blocks done" in chart.svg


def test_speed_over_time_is_voxels_by_time_and_a_short_run_has_none():
    chart = throughput_chart([2e6, 4e6, 4e6, 1e6], interval_s=2.0, seconds=8.0)
    heights = np.array(numbers(chart.svg, "bar", "height"))
    np.testing.assert_allclose(heights / heights.max(), [0.5, 1, 1, 0.25], atol=0.01)
    assert "2.00 M/s" in chart.svg
    assert throughput_chart([5], interval_s=0.25, seconds=0.2) is None
    assert throughput_chart([], interval_s=0.25, seconds=0.0) is None
