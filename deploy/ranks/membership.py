"""Which workers could join the ranks of a run, and which are about to end."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from .turns import channels_on

if TYPE_CHECKING:
    from distributed import Client

ENDING = ("closing_gracefully", "closing")
"""States of a worker that is retired, drains, or was asked to end by a signal."""


def joinable(
    client: Client, records: Mapping[str, Any], *, own: Collection[str], excluded: Collection[str]
) -> list[str]:
    """Return the workers that could take a rank more: they run, and have no ranks of another run.

    records: the scheduler's, by address. own: workers of this run's ranks.
    """
    others = [
        address
        for address, record in records.items()
        if record["status"] == "running" and address not in own and address not in excluded
    ]
    if not channels_on(client, others):
        return others
    return [address for address in others if not channels_on(client, [address])]


def ending(records: Mapping[str, Any], own: Collection[str]) -> set[str]:
    """Return those of some workers that are about to end."""
    return {one for one in own if one in records and records[one]["status"] in ENDING}


def announced_end(client: Client, address: str) -> bool:
    """Return whether a worker that is gone closed in an orderly way, as after SIGTERM.

    It then logs an event under its address. A worker that was killed, or lost, logs nothing.
    """
    events = client.get_events(address)
    return any(
        isinstance(event, Mapping) and event.get("action") == "closing-worker"
        for _, event in events
    )
