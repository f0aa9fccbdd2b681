"""Shares of a volume, one run each: ``--shard 2/3``. What they have in common is the output.

The regions are cut into contiguous ranges, so that a share's blocks are neighbours: its part of the
ledger fills few chunks, and its workers read few bricks of the input that another share's read.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from ..base.errors import OutputError, PlanError, RunError
from ..base.location import Location
from ..base.store_errors import explained
from ..base.stores import open_group
from ..output.guard import RUN_GROUP
from ..planning.blocks import Region
from .figures import Figures
from .ledger import BlockState, ShareState, part_states, read_states, run_attributes
from .ownership import SHARDS, part_path

MERGED = "merged"
"""Attribute of the run group: the parts of the ledger are in the one ledger."""


@dataclass(frozen=True, slots=True)
class Share:
    """Which of how many shares, from 1."""

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
            raise PlanError(f"--shard {text!r}: say which of how many, i/N, from 1/N to N/N")
        return share

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def cut(regions: Sequence[Region], share: Share) -> tuple[tuple[Region, ...], ...]:
    """Return the regions of every share, in order: contiguous, near-equal in blocks, none empty.

    Each share ends where the blocks so far come nearest to what equal shares would have. Raises
    PlanError where there are more shares than regions.
    """
    if share.of > len(regions):
        raise PlanError(
            f"--shard {share}: the volume has {len(regions)} regions of blocks, which are not "
            f"cut: take {len(regions)} shares at most"
        )
    ends = list(itertools.accumulate(map(len, regions)))
    bounds = [0]
    for number in range(1, share.of):
        wanted = ends[-1] * number / share.of
        first, last = bounds[-1] + 1, len(regions) - (share.of - number)
        bounds.append(min(range(first, last + 1), key=lambda n: abs(ends[n - 1] - wanted)))
    return tuple(tuple(regions[a:b]) for a, b in itertools.pairwise((*bounds, len(regions))))


def check_kind(output: Location, share: Share | None, *, finishing: bool) -> None:
    """Raise OutputError unless an output of ours is made the way in which this run would go on.

    share: this run's; None for a run of the whole volume. finishing: the run that ends all shares.
    """
    noted = run_attributes(output)
    blocks: Any = noted.get(SHARDS)
    if blocks is None and (share or finishing):
        advice = f"--shard {share}" if share else "finish"
        raise OutputError(
            f"{output} was begun without --shard: go on without {advice} by overtile segment, or "
            "choose another output"
        )
    if blocks is None or finishing:
        return
    if share and share.of != len(blocks):
        raise OutputError(
            f"{output} is made in {len(blocks)} shares, not {share.of}: go on with --shard "
            f"i/{len(blocks)}, or choose another output"
        )
    if not share and not noted.get(MERGED):
        raise OutputError(
            f"{output} is made in {len(blocks)} shares: go on with --shard i/{len(blocks)}, then "
            "overtile finish; or replace it with --overwrite"
        )


def incomplete_shares(output: Location) -> tuple[ShareState, ...]:
    """Return the shares of an output that miss blocks."""
    return tuple(state for state in read_states(output) if state.missing)


def merge_shares(output: Location) -> None:
    """Write all parts of the ledger into the one ledger, and the sum of their figures.

    Every share must be complete: RunError otherwise. Done before, it is not done again: the figures
    may have grown.
    """
    if run_attributes(output).get(MERGED):
        return
    if lacking := incomplete_shares(output):
        raise RunError(f"not every share of {output} is complete: {told(lacking)}")
    with explained(OutputError, output):
        run: Any = open_group(output, mode="r+")[RUN_GROUP]
        whole = np.zeros(run["done"].shape, np.uint8)
        figures = Figures()
        for number in range(1, len(run.attrs[SHARDS]) + 1):
            whole[np.asarray(part_states(run, number)[...]) == BlockState.DONE] = BlockState.DONE
            figures += share_figures(run, number)
        run["done"][...] = whole
        run.attrs.update({"figures": figures.to_json(), MERGED: True})


def share_figures(run: zarr.Group, share: int) -> Figures:
    """Return what the runs of one share came to."""
    part: Any = run.get(part_path(share).removeprefix(f"{RUN_GROUP}/"))
    return Figures.from_json(part.attrs.get("figures") if part is not None else None)


def told(states: Sequence[ShareState]) -> str:
    """Return what some shares miss, as a person reads it.

    >>> told([ShareState(number=2, of=3, blocks=40, done=23, set_aside=0)])
    'shard 2/3 misses 17 of 40 blocks'
    """
    return ", ".join(
        f"shard {state.number}/{state.of} misses {state.missing} of {state.blocks} blocks"
        for state in states
    )
