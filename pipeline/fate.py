"""What happens to an output: made where there is nothing, gone on with, or deleted first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from .claim import is_begun
from .errors import OutputError
from .explain import redacted
from .ledger import was_created
from .output import Found, check_output
from .shards import check_kind

if TYPE_CHECKING:
    from .prepare import SegmentRequest

Fate: TypeAlias = Literal["created", "resumed", "replaced"]


def fate_of(request: SegmentRequest, *, finishing: bool) -> Fate:
    """Return what happens to the output. finishing: the run ends an output made in shares.

    Writes nothing. Raises OutputError where something is there that this run does not go on with.
    """
    found = _found(request)
    if finishing and found != "ours":
        raise OutputError(
            f"{redacted(request.output)} holds nothing to finish: run its shares first, "
            "overtile segment … --shard i/N"
        )
    if found == "absent":
        return "created"
    if found == "foreign" or request.overwrite:
        return "replaced"
    check_kind(request.output, request.share, finishing=finishing)
    if was_created(request.output):
        return "resumed"
    # A creation that was cut short holds no voxel yet: it is done again, or another share is at it.
    return "created" if request.share else "replaced"


def _found(request: SegmentRequest) -> Found:
    """Return what is at the output. What other shares have just begun to create is no obstacle."""
    try:
        return check_output(request.output, input_uri=request.input, overwrite=request.overwrite)
    except OutputError:
        if request.share is None:
            raise
        if is_begun(request.output):
            return "absent"
        return check_output(request.output, input_uri=request.input, overwrite=False)
