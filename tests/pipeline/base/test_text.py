"""Sizes, durations and tables read well and lose less than they show."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.base import text

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
CELLS = st.text(max_size=12)


@given(st.integers(0, 10**18))
@example(1023)
@example(1024)
@example(10_235)
@example(1024**2 - 1)
@example(1024**2 - 600)
def test_sizes_are_short_and_within_a_percent(size):
    number, unit = text.size_text(size).split()
    shown = float(number.replace(",", "")) * 1024 ** UNITS.index(unit)
    assert shown == pytest.approx(size, rel=0.01)
    assert len(number) <= 5
    assert float(number.replace(",", "")) < 1024


@given(st.floats(0, 10**6))
@example(9.94)
@example(9.96)
@example(59.94)
@example(59.96)
@example(119.7)
@example(3599.6)
def test_durations_are_within_a_minute_of_an_hour_and_never_show_sixty(seconds):
    shown = text.duration_text(seconds)
    units = {"h": 3600, "min": 60, "s": 1}
    found = sum(float(n) * units[u] for n, u in re.findall(r"([\d.]+) (h|min|s)", shown))
    assert found == pytest.approx(seconds, abs=60 if "h" in shown else 0.55)
    assert not re.search(r"\b60(\.0)? (s|min)", shown)


@given(st.floats(0, 1e9))
@example(0.0)
def test_rates_are_within_five_percent(rate):
    assert float(text.rate_text(rate)) == pytest.approx(rate, rel=0.05)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
def test_a_markdown_table_has_one_line_per_row_whatever_its_cells_hold(rows):
    header, rule, *lines = text.markdown_table(rows).split("\n")
    assert len(lines) == len(rows)
    for line in (header, rule, *lines):
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3, line
