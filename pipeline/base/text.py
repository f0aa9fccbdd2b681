"""Sizes, durations, rates, counts and tables as text. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress

_SIZE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_FLOP_UNITS = ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP")


def shape_text(shape: Iterable[int]) -> str:
    """Return the sizes of a box.

    >>> shape_text((64, 256, 256))
    '64×256×256'
    """
    return "×".join(map(str, shape))


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Return a question that proposes the name which resembles a word, or nothing.

    >>> did_you_mean("segmnt", ["segment", "plan"]), did_you_mean("help", ["segment", "plan"])
    (' (did you mean segment?)', '')
    """
    from difflib import get_close_matches

    found = get_close_matches(word.lower(), list(names), n=1, cutoff=0.7)
    return f" (did you mean {found[0]}?)" if found else ""


def printable(text: str) -> str:
    r"""Return a text on one line, with escapes for what a terminal would obey or not show.

    Line breaks, control characters, marks of writing direction, bytes that are not UTF-8.

    >>> print(printable("in\n\x1b[2J.zarr"))
    in\n\x1b[2J.zarr
    """
    if text.isprintable():
        return text
    with suppress(UnicodeError):  # a name in UTF-8 where the locale knows ASCII only
        if text.encode(errors="surrogateescape").decode().isprintable():
            return text
    return "".join(map(_visible, text))


def printable_lines(text: str) -> str:
    """Return a text of several lines, each as :func:`printable` returns it."""
    return "\n".join(map(printable, text.split("\n")))


def _visible(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()


def shortened(text: str, *, most: int) -> str:
    """Return a text of at most this many characters, without its middle if it is longer.

    >>> shortened("a" * 100, most=9)
    'aaaa…aaaa'
    """
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}…{text[len(text) - (most - 1) // 2 :]}"


def brief(value: object) -> str:
    """Return a value as a message shows it: quoted where it is a text, on one line, and short.

    >>> brief("a" * 99)[:4], len(brief("a" * 99))
    ("'aaa", 80)
    """
    return shortened(printable(repr(value)), most=80)


def size_text(size_bytes: float) -> str:
    """Return a number of bytes in binary units, with three digits.

    >>> size_text(950), size_text(8 * 2**30), size_text(200.3 * 2**20)
    ('950 B', '8.00 GiB', '200 MiB')
    """
    if size_bytes < 1023.5:
        return f"{size_bytes:.0f} B"
    value, unit = _scaled(size_bytes, 1024, _SIZE_UNITS)
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:,.{digits}f} {unit}"


def flops_text(flops: float) -> str:
    """Return a number of floating-point operations, with three digits.

    >>> flops_text(3.07e12)
    '3.07 TFLOP'
    """
    value, unit = _scaled(flops, 1000, _FLOP_UNITS)
    return f"{value:.3g} {unit}"


def _scaled(value: float, step: int, units: Sequence[str]) -> tuple[float, str]:
    for unit in units[:-1]:
        if value < step - 0.5:
            return value, unit
        value /= step
    return value, units[-1]


def duration_text(seconds: float) -> str:
    """Return a duration.

    >>> duration_text(4.26), duration_text(45), duration_text(125), duration_text(3725)
    ('4.3 s', '45 s', '2 min 05 s', '1 h 02 min')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def clock_text(seconds: float) -> str:
    """Return a duration as batch systems write it.

    >>> clock_text(5400)
    '01:30:00'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"


def rate_text(rate: float) -> str:
    """Return a rate with at least two significant digits.

    >>> rate_text(12.34), rate_text(0.00346)
    ('12.34', '0.0035')
    """
    return f"{rate:.2f}" if rate >= 0.1 or not rate else f"{rate:.2g}"


def voxel_rate_text(voxels_per_s: float) -> str:
    """Return a speed.

    >>> voxel_rate_text(2.5e6)
    '2.50 Mvoxel/s'
    """
    return f"{rate_text(voxels_per_s / 1e6)} Mvoxel/s"


def counted(number: int, thing: str) -> str:
    """Return a number and its noun, in the plural unless the number is 1.

    >>> counted(1, "block"), counted(1200, "block")
    ('1 block', '1,200 blocks')
    """
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def aligned_rows(rows: Sequence[Sequence[str]]) -> str:
    """Return a table as lines: every column is as wide as its longest cell, left-aligned.

    >>> print(aligned_rows([("blocks", "12"), ("halo", "0×20×20")]))
    blocks  12
    halo    0×20×20
    """
    return "\n".join(_aligned(rows, "<"))


def aligned_figures(rows: Sequence[Sequence[str]]) -> str:
    """Return a table as lines: all columns after the first are right-aligned.

    >>> print(aligned_figures([("class", "IoU"), ("cells", "0.91")]))
    class   IoU
    cells  0.91
    """
    return "\n".join(_aligned(rows, ">"))


def _aligned(rows: Sequence[Sequence[str]], side: str) -> Iterable[str]:
    cells_of = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells_of, strict=True)]
    sides = ("<", *side * (len(widths) - 1))
    for row in cells_of:
        cells = zip(row, sides, widths, strict=True)
        yield "  ".join(f"{cell:{side}{width}}" for cell, side, width in cells).rstrip()


def markdown_table(
    rows: Iterable[Sequence[str]], *, header: Sequence[str] = ("", ""), figures: bool = False
) -> str:
    """Return a table in GitHub's Markdown, its cells escaped.

    figures: right-align all columns after the first.

    >>> print(markdown_table([("blocks", "12")]))
    |  |  |
    |:--|:--|
    | blocks | 12 |
    """
    rules = (":--", *("--:" if figures else ":--" for _ in header[1:]))
    lines = ["| " + " | ".join(map(markdown_text, row)) + " |" for row in (header, *rows)]
    return "\n".join([lines[0], f"|{'|'.join(rules)}|", *lines[1:]])


def markdown_text(text: str) -> str:
    """Return ``text`` on one line, with the characters escaped that Markdown or HTML interprets.

    >>> markdown_text("a|b <c>")
    'a\\\\|b &lt;c&gt;'
    """
    one_line = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", one_line)
