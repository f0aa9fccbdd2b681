"""Pictures as sixel graphics, which some terminals show.

A sixel is a column of six pixels as one character. A band of six rows is sent once per colour, each
time from its left end. See DEC's VT330/VT340 Programmer Reference Manual, volume 2, chapter 14.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .pictures import Rgb

COLOURS: Final = 64
_FIRST = 63  # the character of a sixel without a pixel


def sixel_text(picture: Rgb) -> str:
    """Return the control sequence that draws a picture, in at most ``COLOURS`` colours."""
    reduced = Image.fromarray(picture).quantize(COLOURS, dither=Image.Dither.NONE)
    index_yx = np.asarray(reduced)
    palette = np.asarray(reduced.getpalette(), float).reshape(-1, 3)
    height, width = index_yx.shape
    colours = "".join(
        f"#{number};2;{';'.join(str(round(part / 2.55)) for part in rgb)}"
        for number, rgb in enumerate(palette[: int(index_yx.max()) + 1])
    )
    bands = (_band(index_yx[top : top + 6]) for top in range(0, height, 6))
    return f'\x1bPq"1;1;{width};{height}{colours}{"-".join(bands)}\x1b\\'


def _band(index_yx: NDArray[np.uint8]) -> str:
    """Return up to six rows: every colour's pixels, from the left end each."""
    bits = 1 << np.arange(len(index_yx))[:, None]
    return "$".join(
        f"#{colour}{''.join(_runs(((index_yx == colour) * bits).sum(axis=0)))}"
        for colour in np.unique(index_yx).tolist()
    )


def _runs(sixels_x: NDArray[np.int64]) -> Iterator[str]:
    """Yield the characters of a row of sixels, longer runs as a count and one character."""
    for value, run in itertools.groupby(sixels_x.tolist()):
        count, character = sum(1 for _ in run), chr(_FIRST + value)
        yield f"!{count}{character}" if count > 3 else character * count
