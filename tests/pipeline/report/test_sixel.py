"""A picture as sixel graphics is the picture, in few colours."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pipeline.report.sixel import COLOURS, sixel_text


def decoded(text):
    """Return the picture (y, x, 3) that a terminal draws; colours are percent."""
    header = re.fullmatch(r'\x1bPq"1;1;(\d+);(\d+)(.*)\x1b\\', text, re.DOTALL)
    width, height = int(header[1]), int(header[2])
    picture = np.full((height, width, 3), -1)
    palette, colour, x, top = {}, None, 0, 0
    pattern = re.compile(r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)([?-~])|([?-~])|([$-])")
    at = 0
    while at < len(header[3]):
        match = pattern.match(header[3], at)
        at = match.end()
        if match[1]:
            palette[int(match[1])] = [int(match[n]) for n in (2, 3, 4)]
        elif match[5]:
            colour = int(match[5])
        elif match[9]:
            x, top = 0, top + 6 * (match[9] == "-")
        else:
            bits = ord(match[7] or match[8]) - 63
            for _ in range(int(match[6] or 1)):
                for row in range(6):
                    if bits >> row & 1:
                        assert (picture[top + row, x] == -1).all(), "drawn twice"
                        picture[top + row, x] = palette[colour]
                x += 1
            assert x <= width
    return picture


@pytest.mark.parametrize("shape", [(1, 1), (6, 5), (7, 40), (20, 3)])
def test_every_pixel_is_drawn_once_in_its_colour(shape):
    random = np.random.default_rng(0)
    colours = random.integers(0, 256, (8, 3)).astype(np.uint8)
    picture = colours[random.integers(0, 8, shape)]
    np.testing.assert_allclose(decoded(sixel_text(picture)), picture / 2.55, atol=1)


def test_a_picture_of_many_colours_is_reduced():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    drawn = decoded(sixel_text(ramp))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) <= COLOURS
    np.testing.assert_allclose(drawn, ramp / 2.55, atol=5)
