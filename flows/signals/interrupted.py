"""Whether an error is a stop that somebody asked for, by Ctrl-C or a signal."""

from __future__ import annotations

import threading
from types import FrameType

_ASKED = threading.Event()


class Stopped(KeyboardInterrupt):
    """A signal's stop.

    A class of its own: once a KeyboardInterrupt itself went through C, as in the import of a
    compiled module, Python ends by SIGINT at last, whatever the exit code is.
    """


def stop(signum: int, frame: FrameType | None) -> None:
    """Let a signal end a run as Ctrl-C does: blocks cancelled, ledger written, cluster closed."""
    _ASKED.set()
    raise Stopped


def interrupted(error: BaseException) -> bool:
    """Return whether an error is a stop, or what became of one that met an import.

    A compiled module then fails to be imported, with the stop as its cause or without; or its
    package is imported once more, finds itself half there, and raises what it will.
    """
    if not isinstance(error, ImportError | SystemError):
        met = _ASKED.is_set() and _by_a_module_s_body(error)
        return met or isinstance(error, KeyboardInterrupt)
    at: BaseException | None = error
    while at is not None and not isinstance(at, KeyboardInterrupt):
        at = at.__cause__ or at.__context__
    return at is not None or _ASKED.is_set()


def _by_a_module_s_body(error: BaseException) -> bool:
    """Return whether an error came out of an import: Python leaves the import's own frames out."""
    at = error.__traceback__
    while at is not None:
        frame = at.tb_frame
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") != "__main__":
            return True
        at = at.tb_next
    return False
