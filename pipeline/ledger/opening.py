"""Opens the output of a run that one process makes: created, replaced or resumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base.errors import OutputError
from ..base.geometry import Shape
from ..base.location import Location
from ..base.versions import VERSION
from ..output.guard import delete_output
from ..output.image_spec import Version
from .creation import begin_run_group, complete_run_group
from .identity import Job, check_digest
from .ledger import Ledger, run_attributes
from .output_action import OutputAction
from .ownership import OWNER, new_token


def open_output(
    output: Location,
    job: Job,
    *,
    action: OutputAction,
    grid: Shape,
    version: Version,
    provenance: Mapping[str, Any],
) -> tuple[Ledger, str]:
    """Return the ledger of an output, and the token of the run that owns it from now on.

    Raises OutputError if another run is creating the output, if it belongs to another job, or if it
    cannot be written.
    """
    token = new_token(None)
    try:
        if action != "resumed":
            _begin(output, job, action=action, version=version, provenance=provenance, token=token)
        check_digest(output, job, run_attributes(output))
        complete_run_group(output, grid=grid, version=version, in_shares=False)
        return Ledger.open(output, job, owner=token), token
    except OSError as error:
        raise OutputError(
            f"{output} cannot be written ({error.strerror or error}): choose another output"
        ) from error


def _begin(
    output: Location,
    job: Job,
    *,
    action: OutputAction,
    version: Version,
    provenance: Mapping[str, Any],
    token: str,
) -> None:
    if action == "replaced":
        delete_output(output)
    if not begin_run_group(
        output, job, version=version, overtile=VERSION, **{OWNER: token}, provenance=provenance
    ):
        raise OutputError(
            f"another run is creating {output} at this moment: wait for it, or choose another "
            "output"
        )
