"""Errors that the system or its administrator causes, as one line for the user."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator

_NO_THREAD = "can't start new thread"  # CPython's words
_DASK_CONFIG = "A dask config file at"  # Dask's words


def refused_by_the_system(error: BaseException) -> str | None:
    """Return the line for an error of this kind, or None for any other error."""
    for one in _chain(error):
        is_refused = isinstance(one, OSError) and one.errno == errno.EAGAIN and one is error
        if is_refused or _NO_THREAD in str(one):
            most = resource.getrlimit(resource.RLIMIT_NPROC)[0]
            limit = "" if most == resource.RLIM_INFINITY else f", now {most}"
            return (
                f"the system refuses another thread or process: raise the limit (ulimit -u{limit}),"
                " end other programs, or use fewer --workers"
            )
        if isinstance(one, ValueError) and str(one).startswith(_DASK_CONFIG):
            return f"{' '.join(str(one).split())}: correct it or delete it"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
