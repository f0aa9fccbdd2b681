"""The topic of a channel's events, named so that the scheduler forgets them with a Variable.

distributed has no call that deletes the events of a topic. But deleting a Variable removes the
pseudo-client ``variable-NAME`` (``VariableExtension.delete``), and a client's topic, which has the
client's name, is emptied when the client has been gone for
``distributed.scheduler.events-cleanup-delay`` (an hour). Only public calls are made here: with a
distributed that works otherwise, up to ``distributed.admin.low-level-log-length`` events of each
run stay in the scheduler, and nothing else changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client

_SUFFIX = "-events"
"""The scheduler logs the removal on the topic, so this is not the Variable of the orders."""


def topic_name(channel: str) -> str:
    """Return the topic of a channel's events."""
    return f"variable-{channel}{_SUFFIX}"


def forget_events(channel: str, client: Client) -> None:
    """Have the scheduler delete, after its delay, the events of a channel."""
    from distributed import Variable

    Variable(f"{channel}{_SUFFIX}", client=client).delete()
