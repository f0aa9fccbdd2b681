"""The processes of a training, as the loop sees them: one of many ranks, or the only one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from .messages import Message


class RankLike(Protocol):
    """One rank of a training; ``deploy.Rank`` is one."""

    @property
    def rank(self) -> int:
        """Its number, from 0; rank 0 writes files."""

    @property
    def world_size(self) -> int:
        """How many ranks there are."""

    @property
    def device(self) -> str:
        """For torch: ``cpu`` or ``cuda:0``."""

    @property
    def yielded(self) -> Any:
        """What to return after leaving because the ranks were asked to."""

    def should_stop(self) -> bool:
        """Whether the ranks were asked to leave."""

    def should_regroup(self) -> bool:
        """Whether the ranks are to leave when their state is next saved, as more may join."""

    def report(self, payload: Message) -> None:
        """Send a message to the process that started the ranks."""

    def barrier(self) -> None:
        """Wait for all ranks, however long one of them takes."""


class RunRanks(Protocol):
    """Runs a callable as ranks; ``functools.partial(deploy.run_ranks, client=client)`` is one."""

    def __call__(
        self,
        function: Callable[[Any], Any],
        *,
        ranks: int,
        max_ranks: int | None = None,
        message_types: tuple[type, ...] = (),
        on_event: Callable[[Any], None] | None = None,
        stop: threading.Event | None = None,
    ) -> list[Any]:
        """Return a result per rank: what the callable returned on it.

        ranks: how many there are at first. max_ranks: up to so many, if workers join meanwhile.
        on_event: called with what happens to the ranks; a rank's message is its ``payload``.
        stop: once set, the ranks are asked to leave.
        """


@dataclass(frozen=True, slots=True)
class Alone:
    """The only rank, in this process."""

    device: str = "cpu"
    rank: int = 0
    world_size: int = 1
    listener: Callable[[Message], None] = field(default=lambda message: None)
    stop: Callable[[], bool] = field(default=lambda: False)
    yielded: None = None

    def should_stop(self) -> bool:
        """Return what ``stop`` returns."""
        return self.stop()

    def should_regroup(self) -> bool:
        """Return False: there are no other ranks."""
        return False

    def report(self, payload: Message) -> None:
        """Call the listener."""
        self.listener(payload)

    def barrier(self) -> None:
        """Return at once: there are no other ranks."""


def run_in_this_process(
    function: Callable[[Any], Any],
    *,
    ranks: int,
    max_ranks: int | None = None,
    message_types: tuple[type, ...] = (),
    on_event: Callable[[Any], None] | None = None,
    stop: threading.Event | None = None,
) -> list[Any]:
    """Run a callable as the only rank."""
    from ..predict.runtime import settle_device

    assert ranks == 1
    rank = Alone(
        device=str(settle_device("auto")),
        listener=on_event or (lambda message: None),
        stop=(stop or threading.Event()).is_set,
    )
    return [function(rank)]
