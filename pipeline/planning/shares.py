"""Shares of a volume, ``--shard 2/3``: contiguous ranges of its regions.

A share's blocks are neighbours: its part of the ledger fills few chunks, and its workers read few
chunks of the input that other shares' workers also read.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..base.errors import PlanError
from ..base.text import counted
from .blocks import Region


@dataclass(frozen=True, slots=True)
class Share:
    """One share of several, numbered from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """Return the share for ``i/N``, or raise PlanError.

        >>> Share.parse("2/3")
        Share(number=2, of=3)
        """
        match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
        share = cls(int(match[1]), int(match[2])) if match else cls(0, 0)
        if not 1 <= share.number <= share.of:
            raise PlanError(f"--shard {text!r}: expected i/N, from 1/N to N/N, like 2/3")
        return share

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def cut(
    regions: Sequence[Region], share: Share, *, count: Callable[[Region], int] = len
) -> tuple[tuple[Region, ...], ...]:
    """Return the regions of every share, in order: contiguous, near-equal in blocks, none empty.

    Each share ends where the blocks so far are nearest to those of equal shares. count: number of
    blocks of a region that are computed; regions without one do not count. Raises PlanError for
    more shares than regions.
    """
    places = [number for number, region in enumerate(regions) if count(region)]
    if share.of > len(places):
        raise PlanError(
            f"--shard {share}: the volume has {counted(len(places), 'region')} of blocks, and a "
            f"share has whole regions; use at most {counted(len(places), 'share')}"
        )
    ends = list(itertools.accumulate(count(regions[place]) for place in places))
    bounds = [0]
    for number in range(1, share.of):
        wanted = ends[-1] * number / share.of
        first, last = bounds[-1] + 1, len(places) - (share.of - number)
        bounds.append(min(range(first, last + 1), key=lambda n: abs(ends[n - 1] - wanted)))
    cuts = (0, *(places[bound] for bound in bounds[1:]), len(regions))
    return tuple(tuple(regions[a:b]) for a, b in itertools.pairwise(cuts))
