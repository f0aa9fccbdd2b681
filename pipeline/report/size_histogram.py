"""A histogram of sizes on a logarithmic scale: a picture, and a drawing for a page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .charts import Chart, drawing, text_at
from .drawn_text import drawable
from .histogram import Mark, draw_marks
from .pictures import Colour, Rgb

_HEIGHT_PX, _BARS_PX = 236, 130
_LEFT_PX, _TOP_PX = 20, 52
_INK: Final[Colour] = (32, 38, 46)
_BARS: Final[Colour] = (86, 140, 190)
_GRID: Final[Colour] = (225, 230, 235)
_CHART_PX: Final = (760, 192)
"""Width and height of the drawing."""
_CHART_TOP, _CHART_BOTTOM = 30, 164
_LETTER_PX: Final = 7.2
"""Width of a letter of a drawing, about."""


@dataclass(frozen=True, slots=True)
class Bar:
    """The sizes from ``low`` to below ``high``, both above 0, and how many things have them."""

    low: float
    high: float
    count: int


def size_histogram(
    bars: Sequence[Bar], *, title: str, unit: str, marks: Sequence[Mark], width: int
) -> Rgb:
    """Return a histogram, ``width`` pixels wide; the area of a bar is its count.

    bars: at least one, ascending and adjacent. marks: sizes with a line and a label.
    """
    scale = _Scale(low=bars[0].low, high=bars[-1].high, width=width)
    sheet = Image.new("RGB", (width, _HEIGHT_PX), "white")
    draw = ImageDraw.Draw(sheet)
    _draw_ticks(draw, scale, unit=unit)
    heights = [bar.count / math.log(bar.high / bar.low) for bar in bars]
    bottom = _TOP_PX + _BARS_PX
    for bar, height in zip(bars, heights, strict=True):
        if bar.count:
            left, right = scale.position(bar.low), scale.position(bar.high)
            top = min(bottom - 1, bottom - height / max(heights) * (_BARS_PX - 8))
            draw.rectangle((left, top, max(left, right - 1), bottom), fill=_BARS)
    draw.line((_LEFT_PX, bottom, width - _LEFT_PX, bottom), fill=_INK)
    draw_marks(draw, marks, scale.position, width=width, top=_TOP_PX, bottom=bottom)
    draw.text((_LEFT_PX, 4), drawable(title), font=ImageFont.load_default(16), fill=_INK)
    return np.asarray(sheet)


def size_chart(
    bars: Sequence[Bar], *, title: str, unit: str, marks: Sequence[Mark], caption: str
) -> Chart:
    """Return the same histogram as a drawing, which follows the colours of its page."""
    width, height = _CHART_PX
    scale = _Scale(low=bars[0].low, high=bars[-1].high, width=width)
    heights = [bar.count / math.log(bar.high / bar.low) for bar in bars]
    parts = [*_chart_ticks(scale, unit=unit)]
    for bar, value in zip(bars, heights, strict=True):
        if bar.count:
            left, right = scale.position(bar.low), scale.position(bar.high)
            high = max(1.0, value / max(heights) * (_CHART_BOTTOM - _CHART_TOP))
            parts.append(
                f'<rect class="bar" x="{left:.1f}" y="{_CHART_BOTTOM - high:.1f}" '
                f'width="{max(right - left - 1, 0.5):.1f}" height="{high:.1f}"/>'
            )
    parts.append(f'<path class="axis" d="M{_LEFT_PX} {_CHART_BOTTOM}H{width - _LEFT_PX}"/>')
    parts += _chart_marks(scale, marks)
    stated = [f"{mark.label} {mark.value:,.4g} {unit}" for mark in marks]
    alt = ", ".join([f"{title}: {sum(bar.count for bar in bars):,}", *stated])
    return Chart(title=title, svg=drawing(parts, alt=alt, size=(width, height)), caption=caption)


def _chart_ticks(scale: _Scale, *, unit: str) -> Iterator[str]:
    """Yield a line and a number at round sizes, where there is room, and the unit at the end."""
    end = scale.width - _LEFT_PX
    free_from, free_to = 0.0, end - _LETTER_PX * len(unit) - 10
    yield text_at(end, _CHART_BOTTOM + 20, unit, anchor="end")
    for size in round_sizes(scale.low, scale.high):
        x, text = scale.position(size), f"{size:,.6g}"
        half = _LETTER_PX * len(text) / 2
        yield f'<path class="axis" d="M{x:.1f} {_CHART_BOTTOM}v5"/>'
        if x - half >= free_from and x + half <= free_to:
            yield text_at(x, _CHART_BOTTOM + 20, text, anchor="middle")
            free_from = x + half + 8


def _chart_marks(scale: _Scale, marks: Sequence[Mark]) -> Iterator[str]:
    """Yield a line per mark, and its label above where there is room."""
    free_from = 0.0
    for mark in sorted(marks, key=lambda one: one.value):
        x, half = scale.position(mark.value), _LETTER_PX * len(mark.label) / 2
        yield f'<path class="mark" d="M{x:.1f} {_CHART_TOP - 4}V{_CHART_BOTTOM + 4}"/>'
        middle = min(max(x, half), scale.width - half)
        if middle - half >= free_from:
            yield text_at(middle, _CHART_TOP - 12, mark.label, anchor="middle")
            free_from = middle + half + 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """Where sizes are, in pixels from the left."""

    low: float
    high: float
    width: int

    def position(self, size: float) -> float:
        across = self.width - 2 * _LEFT_PX
        share = math.log(size / self.low) / math.log(self.high / self.low)
        return _LEFT_PX + min(max(share, 0.0), 1.0) * across


def _draw_ticks(draw: ImageDraw.ImageDraw, scale: _Scale, *, unit: str) -> None:
    """Draw a line and a number at round sizes, where there is room, and the unit at the end."""
    font, free_from = ImageFont.load_default(12), 0.0
    bottom = _TOP_PX + _BARS_PX
    unit = drawable(unit)
    free_to = scale.width - _LEFT_PX - font.getlength(unit) - 10
    draw.text((scale.width - _LEFT_PX, bottom + 8), unit, font=font, fill=_INK, anchor="ra")
    for size in round_sizes(scale.low, scale.high):
        x, text = scale.position(size), f"{size:,.6g}"
        half = font.getlength(text) / 2
        draw.line((x, _TOP_PX, x, bottom + 4), fill=_GRID)
        if x - half >= free_from and x + half <= free_to:
            draw.text((x, bottom + 8), text, font=font, fill=_INK, anchor="ma")
            free_from = x + half + 8


def round_sizes(low: float, high: float) -> list[float]:
    """Return the powers of ten between two sizes; with few of them, also 2 and 5 times these.

    >>> round_sizes(3, 200), round_sizes(9, 5000)
    ([5.0, 10.0, 20.0, 50.0, 100.0, 200.0], [10.0, 100.0, 1000.0])
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    tens = [power for power in powers if low <= 10.0**power <= high]
    digits = (1, 2, 5) if len(tens) < 3 else (1,)
    sizes = [digit * 10.0**power for power in powers for digit in digits]
    return [size for size in sizes if low <= size <= high]
