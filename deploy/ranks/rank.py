"""One rank, on its worker: what the callable receives, and the Dask task that calls it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from traceback import clear_frames
from typing import Any, Final

from .channel import START_EVERY_S, RankChannel
from .messages import Arrived, RankAssignment, RankReport


class Yielded(Enum):
    """The type of YIELDED; an Enum, so that unpickling returns the same object."""

    YIELDED = "yielded"


YIELDED: Final = Yielded.YIELDED
"""What the callable returns when it left because the ranks were asked to."""


class PeerLostError(RuntimeError):
    """A rank failed because of another one. The driver finds out which, and starts again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """What the callable receives on every rank."""

    rank: int
    world_size: int
    device: str
    """For torch: ``cpu`` or ``cuda:0``."""
    attempt: int
    """0 the first time, one more whenever the ranks were started again."""
    _channel: RankChannel = field(repr=False)
    _barrier: Callable[[], None] = field(repr=False)

    def should_stop(self) -> bool:
        """Return whether the ranks were asked to leave; costs nothing.

        Ranks learn it at different moments: let them decide together, by an all_reduce of it.
        """
        return self._channel.stop.is_set()

    def should_regroup(self) -> bool:
        """Return whether other workers could join; costs nothing.

        If all ranks agree on it, they return YIELDED when they have next saved their state. All
        then start again, with more ranks. A callable may ignore it.
        """
        return self._channel.regroup.is_set()

    @property
    def yielded(self) -> Yielded:
        """What to return after leaving because the ranks were asked to: YIELDED."""
        return YIELDED

    def report(self, payload: object) -> None:
        """Send a small message to the driver, without waiting for it.

        payload: a dataclass of one of ``message_types``; a field ``step`` that grows is progress.
        Raises TypeError for another type, and for fields that are not plain values.
        """
        self._channel.send(RankReport(attempt=self.attempt, rank=self.rank, payload=payload))

    def barrier(self) -> None:
        """Wait until all ranks are here, however long one of them takes.

        A collective would fail after its timeout: wait here while one rank does something for all.
        """
        self._barrier()


_ONE_RANK = threading.Lock()
"""torch.distributed has one state per process: a rank waits until the one before it has left."""


def is_occupied() -> bool:
    """Return whether a rank runs in this process."""
    return _ONE_RANK.locked()


def run_rank(function: Callable[[Rank], Any], assignment: RankAssignment) -> Any:
    """Run the callable as one rank; this is the task that the driver submits.

    Raises what the callable raised, PeerLostError where another rank was the cause.
    """
    with RankChannel(assignment) as channel, _alone(channel) as is_alone:
        try:
            return _run(function, assignment, channel) if is_alone else YIELDED
        except SystemExit as error:  # Dask would end the worker's thread
            message = f"rank {assignment.rank} called sys.exit({error.code!r})"
            raise RuntimeError(message) from None
        except Exception as error:
            _forget_locals(error)
            raise


def _forget_locals(error: BaseException | None) -> None:
    """Release what an error's frames hold: rank 0's store, the callable's model and optimiser.

    The worker keeps the error until the driver has fetched it, and the next rank needs the memory.
    """
    while error is not None:
        clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


@contextmanager
def _alone(channel: RankChannel) -> Iterator[bool]:
    """Hold this process; yields False if the ranks were asked to leave before."""
    while not (got := _ONE_RANK.acquire(timeout=START_EVERY_S)) and not channel.stop.is_set():
        pass
    try:
        yield got
    finally:
        if got:
            _ONE_RANK.release()


def _run(function: Callable[[Rank], Any], assignment: RankAssignment, channel: RankChannel) -> Any:
    from . import process_group  # torch: neither the driver nor the scheduler needs it

    device = process_group.find_device()
    number, attempt = assignment.rank, assignment.attempt
    several = assignment.world_size > 1
    store = None
    if several and number == 0:
        store = process_group.open_store(channel.host, timeout_s=assignment.timeout_s)
    channel.send(
        Arrived(
            attempt=attempt, rank=number, host=channel.host, port=store.port if store else 0,
            gpu=device.gpu, nccl=device.nccl,
        )
    )  # fmt: skip
    rendezvous = channel.wait_for_rendezvous()
    if rendezvous is None:
        return YIELDED

    def call(barrier: Callable[[], None]) -> Any:
        return function(
            Rank(
                rank=number, world_size=assignment.world_size, device=device.name,
                attempt=attempt, _channel=channel, _barrier=barrier,
            )
        )  # fmt: skip

    if not several:
        return call(lambda: None)
    try:
        with process_group.joined(
            assignment, rendezvous, host=channel.host, store=store,
            is_cancelled=channel.cancelled.is_set,
        ) as barrier:  # fmt: skip
            return call(barrier)
    except Exception as error:
        if process_group.peer_failed(error):
            raise PeerLostError(process_group.describe_failure(error)) from error
        raise
