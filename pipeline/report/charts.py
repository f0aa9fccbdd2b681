"""Charts as inline SVG: they follow the page's colours, light or dark, and print sharply.

All text is escaped here; a ``Chart`` is the only thing that a page takes as markup.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 660, 190, 76, 34, 12
_PLOT_WIDTH: Final = _WIDTH - _LEFT - 10
_PLOT_HEIGHT: Final = _HEIGHT - _BOTTOM - _TOP
_CELL_WIDTH, _CELL_HEIGHT, _CELL_GAP = 310, 132, 40
_CELL_PLOT: Final = 76
_LONGEST_NAME: Final = 46


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A drawing, its title and its caption. svg: markup that a function of this room made."""

    title: str
    svg: str
    caption: str = ""


def bar_chart(
    bars: Sequence[float],
    *,
    title: str,
    caption: str,
    alt: str,
    x_labels: Sequence[tuple[float, str]],
    y_label: str,
) -> Chart:
    """Return bars of equal width, from left to right.

    bars: heights, at least one. alt: the chart in words. x_labels: (position from 0 to 1, text).
    y_label: what the height of the tallest bar is.
    """
    highest, width = max(bars) or 1.0, _PLOT_WIDTH / len(bars)
    parts = []
    for number, value in enumerate(bars):
        height = value / highest * _PLOT_HEIGHT
        parts.append(
            bar_at(_LEFT + number * width, _TOP + _PLOT_HEIGHT, width=width, height=height)
        )
    parts += _axes(x_labels, y_label)
    return Chart(title=title, svg=drawing(parts, alt=alt, size=(_WIDTH, _HEIGHT)), caption=caption)


def bar_grid(
    rows: Sequence[tuple[str, Sequence[float]]],
    *,
    title: str,
    caption: str,
    alt: str,
    x_labels: Sequence[tuple[float, str]],
) -> Chart:
    """Return small bar charts, two side by side, each under its name, each as high as its bars.

    rows: name and heights, at least one. x_labels: (position from 0 to 1, text), of all of them.
    """
    parts = []
    for number, (name, bars) in enumerate(rows):
        left = number % 2 * (_CELL_WIDTH + _CELL_GAP)
        top = number // 2 * _CELL_HEIGHT
        parts += _cell(name, bars, x_labels, place=(left, top))
    down = -(-len(rows) // 2)
    size = (2 * _CELL_WIDTH + _CELL_GAP, down * _CELL_HEIGHT)
    return Chart(title=title, svg=drawing(parts, alt=alt, size=size), caption=caption)


def _cell(
    name: str,
    bars: Sequence[float],
    x_labels: Sequence[tuple[float, str]],
    *,
    place: tuple[float, float],
) -> list[str]:
    left, top = place
    bottom, width, highest = top + 22 + _CELL_PLOT, _CELL_WIDTH / len(bars), max(bars) or 1.0
    shown = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    parts = [text_at(left, top + 13, shown)]
    for number, value in enumerate(bars):
        height = value / highest * _CELL_PLOT
        parts.append(bar_at(left + number * width, bottom, width=width, height=height))
    parts.append(f'<path class="axis" d="M{left} {bottom}H{left + _CELL_WIDTH}"/>')
    for position, label in x_labels:
        x = left + position * _CELL_WIDTH
        parts.append(text_at(x, bottom + 17, label, anchor=_anchor(position)))
    return parts


def bar_at(x: float, bottom: float, *, width: float, height: float) -> str:
    """Return a bar that stands on ``bottom``, with a gap to the next one."""
    return (
        f'<rect class="bar" x="{x:.1f}" y="{bottom - height:.1f}" '
        f'width="{max(width - 1, 0.5):.1f}" height="{height:.1f}"/>'
    )


def _anchor(position: float) -> str:
    return "start" if position < 0.02 else "end" if position > 0.98 else "middle"


def _axes(x_labels: Sequence[tuple[float, str]], y_label: str) -> list[str]:
    bottom = _TOP + _PLOT_HEIGHT
    parts = [
        f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{_LEFT + _PLOT_WIDTH}"/>',
        text_at(_LEFT - 6, _TOP + 9, y_label, anchor="end"),
        text_at(_LEFT - 6, bottom, "0", anchor="end"),
    ]
    for position, label in x_labels:
        x = _LEFT + position * _PLOT_WIDTH
        parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v5"/>')
        parts.append(text_at(x, bottom + 20, label, anchor=_anchor(position)))
    return parts


def text_at(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    """Return an escaped text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def drawing(parts: Sequence[str], *, alt: str, size: tuple[float, float]) -> str:
    """Return a whole SVG. alt: the drawing in words. size: width and height."""
    width, height = size
    return (
        f'<svg role="img" aria-label="{html.escape(alt)}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}">{"".join(parts)}</svg>'
    )
