"""What a run does with its output: create it, resume it, or replace it."""

from __future__ import annotations

from typing import Literal, TypeAlias

from ..base.errors import OutputError
from ..base.location import Location
from ..output.guard import check_output
from ..planning.shares import Share
from .ledger import was_created
from .shares import check_kind

OutputAction: TypeAlias = Literal["created", "resumed", "replaced"]


def choose_output_action(
    output: Location,
    *,
    source: Location | None,
    share: Share | None,
    overwrite: bool,
    finishing: bool,
) -> OutputAction:
    """Return what the run does with ``output``. Writes nothing.

    source: see guard.check_output. share: the run's share of the volume, if any. finishing: the run
    finishes an output that was made in shares. Raises OutputError if the run may neither resume nor
    replace the output.
    """
    found = check_output(output, source=source, overwrite=overwrite, finishing=finishing)
    if finishing and found != "ours":
        raise OutputError(
            f"{output} has nothing to finish: first run its shares with "
            "overtile segment … --shard i/N"
        )
    if found == "absent":
        return "created"
    if found == "foreign" or overwrite:
        return "replaced"
    check_kind(output, share, finishing=finishing)
    if was_created(output):
        return "resumed"
    if share:
        raise OutputError(
            f"{output} was not created completely by an older version of overtile: "
            "delete it, then start the shares again"
        )
    return "replaced"  # an incomplete creation of an older version; it has no voxels
