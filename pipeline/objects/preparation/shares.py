"""Shares of the blocks, ``--shard i/N``: which are theirs, and which are not labelled yet."""

from __future__ import annotations

from typing import Any

from ...base.errors import RunError
from ...ledger.ledger import run_attributes
from ...ledger.opening import OwnShare
from ...ledger.ownership import ENDED, SHARDS
from ...ledger.progress import Progress
from ...ledger.shares import shares_text
from ..tasks.ids import IdIndex
from ..tasks.intermediates import Intermediates, file_name
from ..tasks.tasks import GRAPHS
from .prepared import PreparedObjects


def own_share(prepared: PreparedObjects) -> OwnShare | None:
    """Return the share that a run does, if it does one."""
    share = prepared.request.share
    if share is None:
        return None
    blocks = tuple(sum(map(len, regions)) for regions in prepared.shares(share.of))
    return OwnShare(share=share, blocks=blocks)


def check_labelled(prepared: PreparedObjects) -> None:
    """Raise RunError if a run without a share would need blocks that shares have not labelled."""
    if prepared.in_shares and (lacking := unlabelled(prepared)):
        named = ", ".join(f"{share.number}/{share.of}" for share in lacking)
        raise RunError(
            f"not every block of {prepared.request.output} is labelled: {shares_text(lacking)}; "
            f"run the same command with --shard {named}, then this one again"
        )


def unlabelled(prepared: PreparedObjects) -> tuple[Progress, ...]:
    """Return the shares of an output that have blocks without fragments; none once it is merged."""
    output = prepared.request.output
    noted, files = run_attributes(output), Intermediates(output, reused=prepared.request.reused)
    if ENDED in noted or IdIndex.stored(files) is not None:
        return ()
    labelled = files.names(GRAPHS)
    sizes: Any = noted[SHARDS]
    found = []
    for number, regions in enumerate(prepared.shares(len(sizes)), start=1):
        names = [file_name(index) for region in regions for index in region.indices]
        done = sum(name in labelled for name in names)
        found.append(Progress(blocks=len(names), done=done, number=number, of=len(sizes)))
    return tuple(share for share in found if share.left)
