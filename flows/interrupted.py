"""Whether an error is a stop that somebody asked for, by Ctrl-C or a signal."""

from __future__ import annotations


class Stopped(KeyboardInterrupt):
    """A signal's stop.

    A class of its own: once a KeyboardInterrupt itself went through C, as in the import of a
    compiled module, Python ends by SIGINT at last, whatever the exit code is.
    """


def interrupted(error: BaseException) -> bool:
    """Return whether an error is, or came of, a KeyboardInterrupt.

    Of one that meets the import of a compiled module comes an ImportError.
    """
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        if isinstance(at, KeyboardInterrupt):
            return True
        seen.add(id(at))
        at = at.__cause__ or at.__context__
    return False
