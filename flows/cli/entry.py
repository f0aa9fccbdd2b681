"""The process of a command, in which signals are in order from the first line to the end.

A command's modules take longer to import than Python takes to start, and more than half of a short
command. So they are imported here, once the signals have their handlers.
"""

from __future__ import annotations

from ..signals.ending import end_at_once_on_stop, ignore_stops_at_exit
from ..signals.stop import EXIT_STOPPED, Stopped, handle_stops, nothing_begun


def main() -> int:
    """Run the command of this process, and return its exit code."""
    code, has_ended = EXIT_STOPPED, False
    try:
        ignore_stops_at_exit()
        handle_stops()
        code = _command()
        has_ended = True
        end_at_once_on_stop(code)
    except Stopped:  # during the first imports, or when the command had just ended
        if not has_ended:
            from ..text.terminal import say

            say("overtile: stopped")
    finally:
        end_at_once_on_stop(code)
    return code


def _command() -> int:
    with nothing_begun():
        from .main import main as command

    try:
        return command()
    except SystemExit as ended:  # raised by argparse
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        raise
