"""Whether a worker's memory is enough, checked before the start."""

from __future__ import annotations

from .errors import PlanError
from .text import size_text


def check_worker_memory(need_bytes: int, *, has_bytes: int | None, smaller: str) -> None:
    """Raise PlanError if a worker has less memory than it needs; None or 0: no limit.

    smaller: what else the user can change than the number of workers.

    >>> check_worker_memory(2048, has_bytes=1024, smaller="smaller blocks (--block)")
    Traceback (most recent call last):
    pipeline.base.errors.PlanError: a worker needs 2.00 KiB of memory and has 1.00 KiB: use fewer \
workers, or smaller blocks (--block)
    """
    if has_bytes and need_bytes > has_bytes:
        raise PlanError(
            f"a worker needs {size_text(need_bytes)} of memory and has {size_text(has_bytes)}: use "
            f"fewer workers, or {smaller}"
        )
