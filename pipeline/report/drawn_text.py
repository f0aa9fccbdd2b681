"""Text in pictures: what Pillow's own font can draw, and the sign µ, which it does not have.

That is drawn as a u whose left stem goes down.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from PIL import ImageDraw, ImageFont

_THICKNESS: Final = 0.09
"""Of a stem, as a share of the font's size."""


def drawable(text: str) -> str:
    """Return ``text`` as ASCII: common signs spelt out, accents dropped, the rest as ``?``.

    >>> drawable("0.2 µm × 3, Zellkörper")
    '0.2 um x 3, Zellkorper'
    """
    signs = {"µ": "u", "×": "x", "–": "-", "−": "-", "²": "^2", "³": "^3"}
    spelt = text.translate({ord(sign): spelling for sign, spelling in signs.items()})
    bare = "".join(c for c in unicodedata.normalize("NFKD", spelt) if not unicodedata.combining(c))
    return bare.replace("\N{GREEK SMALL LETTER MU}", "u").encode("ascii", "replace").decode()


def width_of(text: str, *, size: float) -> float:
    """Return the width of a line of text in pixels."""
    return ImageFont.load_default(size).getlength(drawable(text))


def draw_middle(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    *,
    size: float,
    fill: tuple[int, int, int],
) -> None:
    """Draw a line of text whose middle and upper edge are at a place, in Pillow's own font."""
    font = ImageFont.load_default(size)
    shown = drawable(text)
    draw.text(place, shown, font=font, fill=fill, anchor="ma")
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow without FreeType has no sizes"
    left, top = place[0] - font.getlength(shown) / 2, place[1]
    baseline = top + font.getmetrics()[0]
    inside, _, _, _ = font.getbbox("u", anchor="ls")
    _, _, _, down = font.getbbox("p", anchor="ls")
    for number, letter in enumerate(text):
        if letter in "µμ":
            x = left + font.getlength(drawable(text[:number])) + inside
            draw.rectangle((x, baseline, x + size * _THICKNESS, baseline + down), fill=fill)
