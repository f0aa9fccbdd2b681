"""A map of the blocks of a run: which are done, skipped, set aside or missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..base.text import counted
from .charts import Chart, drawing, text_at

MOST_CELLS: Final = 48
"""Per side; cells of larger grids stand for several blocks."""
_SIDE_PX: Final = 260
_GAP_PX: Final = 40

STATES: Final[Sequence[tuple[str, str]]] = (
    ("skipped", "skipped: outside the part to segment, or empty"),
    ("done", "done"),
    ("missing", "not computed"),
    ("aside", "set aside: failed"),
)
"""Class of the page's style and meaning, from the least to the most important."""


def block_map(ranks: NDArray[Any], *, counts: Mapping[str, int], spacing: Sequence[float]) -> Chart:
    """Return a map of a grid of blocks, seen from above and, where it is deep, from the front.

    ranks: (z, y, x), of each block the number of its state in ``STATES``. Where blocks lie behind
    each other, the most important state shows. counts: blocks of each state. spacing: size of a
    block along z, y, x, for the proportions.
    """
    views = [("from above (x to the right, y down)", 0, (1, 2))]
    if ranks.shape[0] > 1:
        views.append(("from the front (x to the right, z down)", 1, (0, 2)))
    parts: list[str] = []
    left, bottom = 0.0, 0.0
    for title, along, (rows, columns) in views:
        seen = _reduced(ranks.max(axis=along))
        height = ranks.shape[rows] * spacing[rows]
        width = ranks.shape[columns] * spacing[columns]
        scale = _SIDE_PX / max(height, width)
        parts += _cells(seen, left=left, size=(height * scale, width * scale))
        parts.append(text_at(left, 14, title))
        left += max(width * scale, _SIDE_PX) + _GAP_PX
        bottom = max(bottom, 22 + height * scale)
    shown = [(name, text) for name, text in STATES if counts.get(name)]
    for number, (name, text) in enumerate(shown):
        y = bottom + 14 + 20 * number
        parts.append(f'<rect class="cell {name}" x="0" y="{y:.0f}" width="13" height="13"/>')
        parts.append(text_at(20, y + 11, f"{counted(counts[name], 'block')} {text}"))
    bottom += 14 + 20 * len(shown)
    alt = "map of blocks: " + ", ".join(f"{counts[name]:,} {text}" for name, text in shown)
    svg = drawing(parts, alt=alt, size=(max(left - _GAP_PX, 420), bottom))
    cell = "a block" if max(ranks.shape) <= MOST_CELLS else "several blocks"
    caption = (
        f"A cell stands for {cell}. Where blocks lie behind each other, a failed one shows before "
        "a done one, and a done one before a skipped one."
    )
    return Chart(title="Map of blocks", svg=svg, caption=caption)


def _reduced(ranks_yx: NDArray[Any]) -> NDArray[Any]:
    """Return at most ``MOST_CELLS`` per side; a cell has the largest rank of its blocks."""
    for axis in (0, 1):
        size = ranks_yx.shape[axis]
        if size > MOST_CELLS:
            starts = np.unique(np.arange(MOST_CELLS) * size // MOST_CELLS)
            ranks_yx = np.maximum.reduceat(ranks_yx, starts, axis=axis)
    return ranks_yx


def _cells(ranks_yx: NDArray[Any], *, left: float, size: tuple[float, float]) -> list[str]:
    """Return a rectangle for each run of equal cells in a row."""
    height, width = (length / n for length, n in zip(size, ranks_yx.shape, strict=True))
    parts = []
    for row, values in enumerate(ranks_yx.tolist()):
        start = 0
        for stop in range(1, len(values) + 1):
            if stop < len(values) and values[stop] == values[start] and len(values) > 24:
                continue
            parts.append(
                f'<rect class="cell {STATES[values[start]][0]}" x="{left + start * width:.1f}" '
                f'y="{22 + row * height:.1f}" width="{(stop - start) * width:.1f}" '
                f'height="{height:.1f}"/>'
            )
            start = stop
    return parts
