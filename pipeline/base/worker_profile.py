"""Whether Dask's workers may look at the stacks of their threads."""

from __future__ import annotations

import sys
from typing import Final

WORKER_PROFILE: Final = {"distributed.worker.profile.enabled": sys.version_info[:2] != (3, 11)}
"""Dask's setting: off on Python 3.11.

There, up to 3.11.8, ``sys._current_frames`` can stop a process for good: if a garbage collection
begins in it while a thread of a library ends its use of Python, as those of tensorstore often do,
each waits for the lock of the other (python/cpython#106883). distributed itself turns off the
profile of its event loops on all of 3.11, but not that of its workers.
"""
