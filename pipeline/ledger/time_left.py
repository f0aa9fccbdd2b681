"""The time that a run still needs, from its recent speed; what is shown does not jump."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

WINDOW_S: Final = 30.0
WINDOW_SHARE: Final = 0.25
WINDOW_BLOCKS: Final = 12.0
"""The speed is that of the last ``WINDOW_S``, of this share of the run, or of the last so many
blocks, whichever is longest."""
FIRST_BLOCKS: Final = 1.0
FIRST_SHARE: Final = 0.02
"""There is no estimate before so many blocks, or this share of the work, are done. Where fractions
of blocks are unknown: before so many blocks per worker, for all of them started at once."""
FOLLOWS_IN_S: Final = 20.0
FOLLOWS_SHARE: Final = 0.1
"""What is shown changes by at most a factor of e in this time, or in this share of the time left
where that is longer."""
_MOST_SAMPLES: Final = 600
_SAMPLES_PER_WINDOW: Final = 100


class TimeLeft:
    """Estimates the time left of one stage of a run. Not thread-safe.

    Blocks end in bursts (workers start together), some take longer, and workers come and go. So the
    speed is a mean over a window, and the time that is shown follows the newest estimate slowly: by
    at most a factor of exp(1 / 20) per second.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=_MOST_SAMPLES)
        self._first: tuple[float, float] | None = None
        self._shown: tuple[float, float] | None = None
        self._is_fine = False
        """Whether fractions of blocks were seen."""

    def update(self, now_s: float, blocks_left: float, *, workers: int = 1) -> float | None:
        """Return the seconds left; None before the first estimate.

        now_s: of a clock that never goes back. blocks_left: fractions of blocks count.
        """
        self._first = self._first or (now_s, blocks_left)
        spacing = self._window(now_s) / _SAMPLES_PER_WINDOW
        if not self._samples or now_s - self._samples[-1][0] >= spacing:
            self._samples.append((now_s, blocks_left))
        newest = self._estimate(now_s, blocks_left, workers)
        if newest is None:
            return None
        if self._shown is None:
            self._shown = (now_s, newest)
            return newest
        before_s, before = self._shown
        expected = max(before - (now_s - before_s), 0.5)
        slowness = max(FOLLOWS_IN_S, FOLLOWS_SHARE * min(newest, expected))
        most = math.exp((now_s - before_s) / slowness)
        shown = min(max(newest, expected / most), expected * most)
        self._shown = (now_s, shown)
        return shown

    def _estimate(self, now_s: float, blocks_left: float, workers: int) -> float | None:
        assert self._first is not None
        _, at_first = self._first
        self._is_fine = self._is_fine or blocks_left != int(blocks_left)
        needed = min(FIRST_BLOCKS, FIRST_SHARE * at_first)
        if not self._is_fine:
            needed = FIRST_BLOCKS * max(1, workers)
        if at_first - blocks_left < needed:
            return None
        window = self._window(now_s)
        start_s, at_start = self._first
        for sample_s, left in self._samples:
            if now_s - sample_s < window or left - blocks_left < WINDOW_BLOCKS:
                break
            start_s, at_start = sample_s, left
        done = at_start - blocks_left
        return blocks_left * (now_s - start_s) / done if done > 0 else None

    def _window(self, now_s: float) -> float:
        """Return the shortest window, in seconds; the samples always reach back further."""
        assert self._first is not None
        return max(WINDOW_S, WINDOW_SHARE * (now_s - self._first[0]))
