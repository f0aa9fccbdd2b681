"""Who may write an output: the run whose token stands in its run group, and no other.

A run takes an output over when it opens it. Whoever held it before (a second start of the same
command, tasks of a stopped run that a worker still computes) finds another token, and stops.
"""

from __future__ import annotations

from .errors import RunError
from .explain import redacted
from .output import RUN_GROUP
from .stores import read_node

OWNER = "owner"


def check_owner(output_uri: str, token: str) -> None:
    """Raise RunError unless the output is there and belongs to the run with this token."""
    node = read_node(output_uri, path=RUN_GROUP)
    if node is None:
        raise RunError(
            f"{redacted(output_uri)} vanished while the run wrote it: what was done is lost"
        )
    if node.attributes.get(OWNER) != token:
        raise RunError(f"another run has taken over {redacted(output_uri)}: this one ends")
