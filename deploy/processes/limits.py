"""Limits of the system on what a user may start, in words."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.base.errors import ClusterError

_NO_THREAD = "can't start new thread"
_LIMITS = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


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
        if _NO_THREAD not in str(error):
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
