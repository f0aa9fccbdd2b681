"""Limits of the system on the processes and threads of a user, in words."""

from __future__ import annotations

import errno
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pipeline.base.errors import ClusterError, RunError

NO_THREAD: Final = "can't start new thread"
"""CPython's words."""
NEEDED: Final = 32
"""Threads and processes of a command with a single worker."""
_LIMITS: Final = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


@contextmanager
def explained_limits(doing: str) -> Iterator[None]:
    """Turn a refused process or thread into a ClusterError of one line.

    doing: what was refused, like "start the server".
    """
    try:
        yield
    except ClusterError:  # a RuntimeError too
        raise
    except OSError as error:
        if error.errno not in _LIMITS:
            raise
        raise ClusterError(f"cannot {doing} ({error.strerror}): {limit_text()}") from error
    except RuntimeError as error:
        if NO_THREAD not in str(error):
            raise
        raise ClusterError(f"cannot {doing} ({error}): {limit_text()}") from error


def limit_text() -> str:
    """Return what the limit of processes is, and the remedy."""
    most, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    number = "unlimited" if most == resource.RLIM_INFINITY else most
    return (
        f"this user may run no more processes and threads here (ulimit -u is {number}); end some, "
        "or raise the limit"
    )


def check_limit(needed: int = NEEDED) -> None:
    """Raise RunError unless the system lets this process start so many threads now.

    Libraries in C++ end the process without a word where they get no thread. Which limit applies,
    and how much of it is used, is best found by trying: a group of processes may have its own.
    """
    enough = threading.Event()
    threads = [threading.Thread(target=enough.wait, daemon=True) for _ in range(needed)]
    started = 0
    try:
        for thread in threads:
            thread.start()
            started += 1
    except RuntimeError:
        raise RunError(
            f"a run needs {needed} threads or more, and {started} could be started: {limit_text()}"
        ) from None
    finally:
        enough.set()
        for thread in threads[:started]:
            thread.join()
