"""One rank, on its worker: what the callable is handed, and the Dask task that calls it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from traceback import clear_frames
from typing import Any, Final

from .channel import GO_EVERY_S, RankLine, Seat


class Yielded(Enum):
    """The type of YIELDED; an Enum, so that it is itself again after its travel."""

    YIELDED = "yielded"


YIELDED: Final = Yielded.YIELDED
"""What the callable returns when it left because ``should_stop()`` said so."""


class PeerLostError(RuntimeError):
    """A rank ended because of another one. Its driver finds out which, and goes on without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """What the callable is handed on every rank."""

    rank: int
    world_size: int
    device: str
    """As torch wants it: ``cpu`` or ``cuda:0``."""
    attempt: int
    """0 the first time, one more whenever the ranks were started again."""
    _line: RankLine = field(repr=False)
    _meet: Callable[[], None] = field(repr=False)

    def should_stop(self) -> bool:
        """Return whether the ranks were asked to leave; costs nothing.

        Ranks learn it at different moments: let them decide together, by an all_reduce of it.
        """
        return self._line.stop.is_set()

    def tell(self, message: dict[str, Any]) -> None:
        """Send a small JSON-able message to the driver; does not wait for it."""
        self._line.say("said", message=message)

    def meet(self) -> None:
        """Wait until all ranks are here, however long one of them takes.

        A collective would fail after its timeout: meet, while one rank does something for all.
        """
        self._meet()


_ONE_RANK = threading.Lock()
"""torch.distributed has one state per process: a rank waits until the one before it has left."""


def run_rank(function: Callable[[Rank], Any], seat: Seat) -> Any:
    """Run the callable as one rank; this is the task that the driver submits.

    Raises what the callable raised, PeerLostError where that was another rank's fault.
    """
    with RankLine(seat) as line, _alone(line) as is_alone:
        try:
            return _run(function, seat, line) if is_alone else YIELDED
        except SystemExit as error:  # Dask would end the worker's thread
            raise RuntimeError(f"rank {seat.rank} called sys.exit({error.code!r})") from None
        except Exception as error:
            _forget_locals(error)
            raise


def _forget_locals(error: BaseException | None) -> None:
    """Let go of what an error's frames hold: rank 0's store, the callable's model and optimiser.

    The worker keeps the error until the driver has seen it, and the next rank needs the memory.
    """
    while error is not None:
        clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


@contextmanager
def _alone(line: RankLine) -> Iterator[bool]:
    """Hold this process; yields False where the rank was called off before it could."""
    while not (got := _ONE_RANK.acquire(timeout=GO_EVERY_S)) and not line.stop.is_set():
        pass
    try:
        yield got
    finally:
        if got:
            _ONE_RANK.release()


def _run(function: Callable[[Rank], Any], seat: Seat, line: RankLine) -> Any:
    from . import (
        process_group as rendezvous,  # torch: neither the driver nor the scheduler needs it
    )

    here = rendezvous.describe_device()
    several = seat.world_size > 1
    store = None
    if several and seat.rank == 0:
        store = rendezvous.open_store(line.host, timeout_s=seat.timeout_s)
    line.say("arrived", host=line.host, port=store.port if store else 0, **here)
    meeting = line.wait_for_go()
    if meeting is None:
        return YIELDED

    def call(meet: Callable[[], None]) -> Any:
        return function(
            Rank(
                rank=seat.rank, world_size=seat.world_size, device=here["device"],
                attempt=seat.attempt, _line=line, _meet=meet,
            )
        )  # fmt: skip

    if not several:
        return call(lambda: None)
    try:
        with rendezvous.joined(
            seat, meeting, host=line.host, store=store, is_called_off=lambda: not line.is_wanted()
        ) as meet:
            return call(meet)
    except Exception as error:
        if rendezvous.peer_failed(error):
            raise PeerLostError(rendezvous.how_it_failed(error)) from error
        raise
