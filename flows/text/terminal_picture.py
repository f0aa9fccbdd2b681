"""Shows a picture in a terminal that supports it: kitty's, iTerm2's or the sixel protocol.

Kitty: https://sw.kovidgoyal.net/kitty/graphics-protocol/. iTerm2: https://iterm2.com/documentation-
images.html. Sixel: a terminal lists 4 among its primary device attributes.
"""

from __future__ import annotations

import base64
import os
import re
import select
import sys
from collections.abc import Mapping
from typing import IO, Literal, TypeAlias

from pipeline.report.pictures import Rgb, png_bytes, smaller

Protocol: TypeAlias = Literal["kitty", "iterm2", "sixel"]

SHOWN_PX = 960
ANSWER_WITHIN_S = 0.3
_CHUNK = 4096  # most bytes of one of kitty's sequences
_ATTRIBUTES = re.compile(rb"\x1b\[\?([\d;]*)c")


def show_picture(picture: Rgb) -> bool:
    """Draw a picture on standard output if that is a terminal that shows pictures.

    Returns whether it was drawn.
    """
    if not sys.stdout.isatty():
        return False
    protocol = named_protocol(os.environ) or ("sixel" if _has_sixel(sys.stdout) else None)
    if protocol is None:
        return False
    sys.stdout.write(sequence(smaller(picture, width=SHOWN_PX), protocol) + "\n")
    sys.stdout.flush()
    return True


def named_protocol(environment: Mapping[str, str]) -> Protocol | None:
    """Return the protocol of the terminal that the environment names, None for others.

    Inside tmux or screen the environment names the terminal outside, which they hide.
    """
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if "TMUX" in environment or "STY" in environment or term.startswith(("tmux", "screen")):
        return None
    if term in ("xterm-kitty", "xterm-ghostty") or "KITTY_WINDOW_ID" in environment:
        return "kitty"
    if program in ("ghostty", "WezTerm"):
        return "kitty"
    if program == "iTerm.app" or environment.get("LC_TERMINAL") == "iTerm2":
        return "iterm2"
    return None


def sequence(picture: Rgb, protocol: Protocol) -> str:
    """Return the control sequence that draws a picture where the cursor is."""
    if protocol == "sixel":
        from pipeline.report.sixel import sixel_text

        return sixel_text(picture)
    png = png_bytes(picture)
    text = base64.b64encode(png).decode()
    if protocol == "iterm2":
        return f"\x1b]1337;File=inline=1;size={len(png)}:{text}\x07"
    pieces = [text[first : first + _CHUNK] for first in range(0, len(text), _CHUNK)]
    last = len(pieces) - 1
    return "".join(
        f"\x1b_G{'a=T,f=100,' if not number else ''}m={int(number < last)};{piece}\x1b\\"
        for number, piece in enumerate(pieces)
    )


def _has_sixel(terminal: IO[str]) -> bool:
    """Ask the terminal for its device attributes; return whether sixel is one of them.

    A terminal that does not answer at once has none.
    """
    if os.environ.get("TERM", "dumb") == "dumb" or not sys.stdin.isatty():
        return False
    try:
        import termios
        import tty
    except ImportError:  # Windows
        return False
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        terminal.write("\x1b[c")
        terminal.flush()
        answer = b""
        while not (match := _ATTRIBUTES.search(answer)):
            if not select.select([keyboard], [], [], ANSWER_WITHIN_S)[0]:
                return False
            answer += os.read(keyboard, 64)
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
    return b"4" in match[1].split(b";")
