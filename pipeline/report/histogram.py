"""A histogram of grey values as a picture, with marks at values and a shaded band."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .drawn_text import drawable
from .pictures import Colour, Rgb

_HEIGHT_PX, _BARS_PX = 226, 120
_LEFT_PX, _TOP_PX = 16, 48
_INK: Final[Colour] = (32, 38, 46)
_BARS: Final[Colour] = (120, 130, 145)
_MARK: Final[Colour] = (213, 94, 0)
_BAND: Final[Colour] = (205, 228, 244)
_BAND_INK: Final[Colour] = (0, 90, 140)
_OUTLIERS = (0.1, 99.9)
"""Percentiles of the values that lie inside the picture."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A grey value with a line, and what is written above the line."""

    value: float
    label: str


@dataclass(frozen=True, slots=True)
class Band:
    """A range of grey values that is shaded, with a dashed line inside, and its name."""

    low: float
    middle: float
    high: float
    name: str


def histogram_picture(
    values: NDArray[Any], *, title: str, marks: Sequence[Mark], band: Band | None, width: int
) -> Rgb:
    """Return a histogram of some values (any shape; NaN is ignored), ``width`` pixels wide.

    The height of a bar is the square root of its count, so that rare values show. All marks and
    the band lie inside the picture, however far from the values.
    """
    finite = values[np.isfinite(values)].ravel()
    low, high = _ends(finite, marks, band)
    sheet = Image.new("RGB", (width, _HEIGHT_PX), "white")
    draw = ImageDraw.Draw(sheet)
    across = width - 2 * _LEFT_PX

    def position(value: float) -> float:
        return _LEFT_PX + (value - low) / (high - low) * across

    if band is not None:
        _draw_band(draw, band, position)
    bottom = _TOP_PX + _BARS_PX
    for left, right, share in _bars(finite, low, high, most=across // 2):
        top = bottom - math.sqrt(share) * (_BARS_PX - 14)
        draw.rectangle((position(left), top, max(position(left), position(right) - 1), bottom),
                       fill=_BARS)  # fmt: skip
    draw.line((_LEFT_PX, bottom, width - _LEFT_PX, bottom), fill=_INK)
    draw_marks(draw, marks, position, width=width, top=_TOP_PX, bottom=bottom)
    draw.text((_LEFT_PX, 4), drawable(title), font=_font(title, width=across), fill=_INK)
    for value, anchor in ((low, "ls"), (high, "rs")):
        place = (position(value), _HEIGHT_PX - 6)
        draw.text(place, f"{value:.4g}", font=ImageFont.load_default(12), fill=_INK, anchor=anchor)
    return np.asarray(sheet)


def _ends(finite: NDArray[Any], marks: Sequence[Mark], band: Band | None) -> tuple[float, float]:
    """Return the least and the largest grey value inside the picture."""
    shown = [mark.value for mark in marks]
    if finite.size:
        shown += np.percentile(finite, _OUTLIERS).tolist()
    if band is not None:
        shown += [band.low, band.high]
    low, high = min(shown, default=0.0), max(shown, default=1.0)
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def _bars(
    finite: NDArray[Any], low: float, high: float, *, most: int
) -> list[tuple[float, float, float]]:
    """Return left end, right end and height (of 1) of each bar.

    Bars of integers are whole numbers wide: others would hold unequal numbers of values.
    """
    width = (high - low) / most
    if finite.dtype.kind in "iu":
        width = math.ceil(width)
        low = math.floor(low) - 0.5
    count = math.ceil((high - low) / width)
    heights, edges = np.histogram(finite.astype(float), count, (low, low + count * width))
    shares = heights / max(1, heights.max())
    return [bar for bar in zip(edges[:-1], edges[1:], shares, strict=True) if bar[2]]


def _draw_band(draw: ImageDraw.ImageDraw, band: Band, position: Any) -> None:
    bottom = _TOP_PX + _BARS_PX
    left, right = position(band.low), position(band.high)
    draw.rectangle((left, _TOP_PX, max(left, right), bottom), fill=_BAND)
    for top in range(_TOP_PX, bottom, 8):
        draw.line((position(band.middle), top, position(band.middle), top + 4), fill=_BAND_INK)
    font = ImageFont.load_default(12)
    half = font.getlength(band.name) / 2
    middle = min(max((left + right) / 2, _LEFT_PX + half), draw.im.size[0] - _LEFT_PX - half)
    draw.text((middle, bottom + 22), band.name, font=font, fill=_BAND_INK, anchor="ma")
    draw.line((left, bottom + 20, right, bottom + 20), fill=_BAND_INK, width=2)


def draw_marks(
    draw: ImageDraw.ImageDraw,
    marks: Sequence[Mark],
    position: Callable[[float], float],
    *,
    width: int,
    top: int,
    bottom: int,
) -> None:
    """Draw a line per mark from ``top`` to ``bottom``, and its label above where there is room."""
    font, free_from = ImageFont.load_default(13), 0.0
    for mark in sorted(marks, key=lambda one: one.value):
        x = position(mark.value)
        draw.line((x, top - 2, x, bottom + 4), fill=_MARK, width=2)
        text = drawable(mark.label)
        half = font.getlength(text) / 2
        middle = min(max(x, _LEFT_PX + half), width - _LEFT_PX - half)
        if middle - half >= free_from:
            draw.text((middle, top - 20), text, font=font, fill=_MARK, anchor="ma")
            free_from = middle + half + 8


def _font(text: str, *, width: int) -> Any:
    """Return the largest of three fonts in which the text fits, else the smallest."""
    fonts = [ImageFont.load_default(size) for size in (16, 14, 12)]
    return next((font for font in fonts if font.getlength(drawable(text)) <= width), fonts[-1])
