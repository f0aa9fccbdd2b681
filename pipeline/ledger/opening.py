"""Opens the output of a run, or of a share of it: created, replaced or resumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..base.errors import OutputError
from ..base.geometry import Shape
from ..base.location import Location
from ..base.store_errors import not_written
from ..base.versions import VERSION
from ..output.guard import delete_output
from ..output.image_spec import Version
from ..planning.shares import Share
from .creation import begin_run_group, complete_run_group
from .identity import Job, check_digest
from .ledger import Ledger, run_attributes
from .output_action import OutputAction
from .ownership import OWNER, SHARDS, check_owner, new_token
from .shares import check_kind


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnShare:
    """The share of a volume that a run does. blocks: how many each of the shares has."""

    share: Share
    blocks: tuple[int, ...]


def open_output(
    output: Location,
    job: Job,
    *,
    action: OutputAction,
    grid: Shape,
    version: Version,
    provenance: Mapping[str, Any],
    own: OwnShare | None = None,
) -> tuple[Ledger, str]:
    """Return the ledger of an output, and the token of the run that owns it from now on.

    own: where the run does a share, whose part of the ledger is returned; any share may create the
    output. Raises OutputError if another run is creating the output, if it belongs to another job,
    or if it cannot be written.
    """
    token = new_token(own.share.number if own else None)
    held = {SHARDS: list(own.blocks)} if own else {OWNER: token}
    try:
        if action == "replaced":
            delete_output(output)
        if action != "resumed" and not begin_run_group(
            output, job, version=version, overtile=VERSION, **held, provenance=provenance
        ):
            _check_other(output, own)
        check_digest(output, job, run_attributes(output))
        complete_run_group(output, grid=grid, version=version, in_shares=own is not None)
        return Ledger.open(output, job, owner=token), token
    except OSError as error:
        raise not_written(output, error, remedy="choose another output") from error


def discard_output(output: Location, *, owner: str) -> None:
    """Delete an output that a run has created and cannot complete.

    Raises RunError if another run owns it, OutputError if it cannot be deleted.
    """
    check_owner(output, owner)
    delete_output(output)


def _check_other(output: Location, own: OwnShare | None) -> None:
    """Raise OutputError unless another share of the same volume has created the output."""
    if own is None:
        raise OutputError(
            f"another run is creating {output} at this moment: wait for it, or choose another "
            "output"
        )
    check_kind(output, own.share, finishing=False)
