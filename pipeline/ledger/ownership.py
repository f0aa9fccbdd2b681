"""Ownership: only the run whose token is stored in a group may write it.

A run takes an output over when it opens it. The previous owner (an earlier start of the same
command, or tasks of a stopped run on a worker) finds another token, and stops.
The run of a share owns its part of the ledger, ``run/shards/2``, and not the output. Its token
ends with the share's number, so that workers, which know only the token, read the right group.
"""

from __future__ import annotations

from typing import Final
from uuid import uuid4

from ..base.errors import RunError
from ..base.location import Location
from ..base.stores import read_node
from ..output.guard import RUN_GROUP

OWNER: Final = "owner"
SHARDS: Final = "shards"
"""Group in the run group with a part of the ledger per share; also its attribute: their blocks."""
ENDED: Final = "shards_ended"
"""Attribute of the run group: a run of the whole has taken over the blocks of all shares."""
MERGED: Final = "merged"
"""Attribute of the run group: the shares' ledgers are merged into the output's."""
SKIPPED: Final = "shards_skipped"
"""Attribute of the run group: how many blocks of each share lie outside the part, if any do."""


def new_token(share: int | None = None) -> str:
    """Return a token that no other run has. share: the share's number, from 1, where it is one."""
    token = uuid4().hex[:12]
    return token if share is None else f"{token}.{share}"


def owned_path(token: str) -> str:
    """Return the path of the group in which a token stands.

    >>> owned_path("3f0c"), owned_path("3f0c.2")
    ('run', 'run/shards/2')
    """
    _, _, share = token.partition(".")
    return part_path(int(share)) if share else RUN_GROUP


def part_path(share: int) -> str:
    """Return the path of the part of the ledger that the share with this number writes."""
    return f"{RUN_GROUP}/{SHARDS}/{share}"


def check_owner(output: Location, token: str) -> None:
    """Raise RunError unless the output is there and belongs to the run with this token."""
    path = owned_path(token)
    node = read_node(output, path=path)
    if node is None:
        raise RunError(f"{output} was moved or deleted while the run wrote it: this run ends")
    if node.attributes.get(OWNER) != token:
        taken = output if path == RUN_GROUP else output / path
        raise RunError(f"another run has taken over {taken}: this one ends")
