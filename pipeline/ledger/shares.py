"""The ledgers of an output that is made in shares: consistency checks, and merging at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base.errors import OutputError, RunError
from ..base.location import Location
from ..base.store_errors import explained
from ..base.stores import read_node
from ..output.guard import RUN_GROUP
from ..planning.shares import Share
from .digests import merge_digests
from .figures import Figures
from .ledger import BlockState, run_attributes, run_group
from .ownership import ENDED, MERGED, SHARDS
from .progress import (
    Progress,
    group_progress,
    part_groups,
    part_states,
    read_progress,
    take_part,
)


def check_kind(output: Location, share: Share | None, *, finishing: bool) -> None:
    """Raise OutputError unless the output is made in the same shares as this run.

    share: this run's; None for a run of the whole volume. finishing: the run is overtile finish.
    """
    noted = run_attributes(output)
    blocks: Any = noted.get(SHARDS)
    if blocks is None and (share or finishing):
        advice = f"without --shard {share}" if share else "with overtile segment, not finish"
        raise OutputError(
            f"{output} was started without --shard: resume it {advice}, or choose another output"
        )
    if blocks is None or finishing:
        return
    if share and share.of != len(blocks):
        raise OutputError(
            f"{output} is made in {len(blocks)} shares, not {share.of}: resume it with --shard "
            f"i/{len(blocks)}, or choose another output"
        )
    if share and noted.get(MERGED) and any(one.left for one in read_progress(output)):
        raise OutputError(
            f"{output}: its shares are merged, and blocks were marked since then: resume it "
            f"without --shard {share}"
        )
    if not share and not noted.get(MERGED):
        raise OutputError(
            f"{output} is made in {len(blocks)} shares: resume it with --shard i/{len(blocks)}, "
            "then overtile finish; or replace it with --overwrite"
        )


def incomplete_shares(output: Location) -> tuple[Progress, ...]:
    """Return the shares of an output that have blocks left to do before they are merged."""
    if run_attributes(output).get(MERGED):
        return ()
    return tuple(share for share in read_progress(output) if share.left)


def merge_shares(output: Location) -> None:
    """Merge the parts of the ledger, and the figures, into those of the whole output.

    Raises RunError unless every share is complete. A second call changes nothing: the figures may
    have grown since the first.
    """
    if run_attributes(output).get(MERGED):
        return
    if incomplete := incomplete_shares(output):
        raise RunError(f"not every share of {output} is complete: {shares_text(incomplete)}")
    with explained(OutputError, output):
        run = run_group(output, mode="r+")
        done: Any = run["done"]
        whole = np.zeros(done.shape, np.uint8)
        figures = Figures()
        for share in group_progress(run):
            for state in (BlockState.DONE, BlockState.SKIPPED):
                whole[part_states(run, share.number) == state] = state
            figures += share.figures
        merge_digests(output, run, part_groups(run))
        done[...] = whole
        run.attrs.update({"figures": figures.to_json(), MERGED: True})


def is_in_shares(output: Location) -> bool:
    """Return whether an output exists, and runs of shares make it."""
    run = read_node(output, path=RUN_GROUP)
    return run is not None and SHARDS in run.attributes


def end_shares(output: Location, *, owner: str) -> None:
    """Merge the parts of the ledger into the whole; the runs of shares that still go on, end.

    owner: the token of the run that takes over the blocks of all shares. Blocks that no share has
    done are left to it.
    """
    with explained(OutputError, output):
        run = run_group(output, mode="r+")
        sizes: Any = run.attrs[SHARDS]
        if ENDED in run.attrs:
            return
        done: Any = run["done"]
        whole = np.asarray(done[...])
        for number in range(1, len(sizes) + 1):
            take_part(run, number, owner=owner)  # first: the share records nothing from now on
            states = part_states(run, number)
            whole[(states == BlockState.LABELLED) & (whole == BlockState.MISSING)] = (
                BlockState.LABELLED
            )
            whole[np.broadcast_to(states == BlockState.DONE, whole.shape)] = BlockState.DONE
        merge_digests(output, run, part_groups(run))
        done[...] = whole
        run.attrs[ENDED] = True


def shares_text(shares: Sequence[Progress]) -> str:
    """Return what some shares have left.

    >>> shares_text([Progress(number=2, of=3, blocks=40, done=23)])
    'shard 2/3 misses 17 of 40 blocks'
    """
    return ", ".join(
        f"shard {share.number}/{share.of} misses {share.left} of {share.computed} blocks"
        for share in shares
    )
