"""Errors that the system or its administrator causes, as one line for the user."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from deploy.processes.limits import NO_THREAD, limit_text

_DASK_CONFIG: Final = "A dask config file at"  # Dask's words


def refused_by_the_system(error: BaseException) -> str | None:
    """Return the line for an error of this kind, or None for any other error."""
    for one in _chain(error):
        is_refused = isinstance(one, OSError) and one.errno == errno.EAGAIN and one is error
        if is_refused or NO_THREAD in str(one):
            return limit_text()
        if isinstance(one, ValueError) and str(one).startswith(_DASK_CONFIG):
            return f"{' '.join(str(one).split())}: correct it or delete it"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
