"""Whether a silent worker computes or stands still. Pure: decisions without actions.

A worker sends a heartbeat every second from its event loop. Code that holds Python's lock (the GIL)
for long stops that loop, so silence alone proves nothing: the worker's nanny, another process,
observes whether the worker's process makes progress.

    heartbeats | | | |
    silent            --- ASK_AFTER_S --->|-- LEAST observations without progress -->|
                                          the nanny is asked                         stands still
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

ASK_AFTER_S = 10.0
"""A worker that was silent for this long is observed."""
HEARTBEATS = 5
"""It must have missed so many heartbeats, too: large clusters send them less often."""
UNOBSERVED_S = 60.0
"""A worker that cannot be observed is reported after this time; what follows is left to Dask."""
WORKER_TTL = {"distributed.scheduler.worker-ttl": "15 minutes"}
"""Of the schedulers that we start. Dask's 5 minutes would end workers that compute in silence."""
LEAST = 3
"""Observations in a row without progress, a few seconds apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    """What the operating system knows of a worker's process."""

    is_stopped: bool
    """Whether a signal stopped it."""
    cpu_s: float
    transferred: int
    """Counts of bytes and calls; grows whenever the process reads or writes."""

    def same_progress(self, other: ProcessState) -> bool:
        """Return whether nothing was computed or transferred between two observations."""
        return (self.cpu_s, self.transferred) == (other.cpu_s, other.transferred)


NoAnswer: TypeAlias = Literal["no answer"]
Unknown: TypeAlias = Literal["unknown"]
Observation: TypeAlias = ProcessState | NoAnswer | Unknown
"""Of the nanny: the state, or no answer in time. Unknown: there is no nanny, or it cannot tell."""


def ask_after_s(workers: int) -> float:
    """Return how long a worker must be silent before it is observed; workers: of its cluster."""
    return max(ASK_AFTER_S, HEARTBEATS * (workers / 200 + 1))  # distributed's longest interval


def standstill(observations: Sequence[Observation]) -> str | None:
    """Return why a silent worker stands still, as the end of a sentence; None if it may compute.

    observations: since it became silent, the latest last.
    """
    last = observations[-LEAST:]
    if len(last) < LEAST:
        return None
    if all(one == "no answer" for one in last):
        return "and so is its nanny"
    states = [one for one in last if isinstance(one, ProcessState)]
    if len(states) < LEAST or not all(one.same_progress(states[0]) for one in states):
        return None
    return "its process is stopped" if states[-1].is_stopped else "its process makes no progress"


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """How long a worker has been silent, and what was observed since."""

    last_seen: float
    """The scheduler's time of its last heartbeat; only its changes matter."""
    silent_s: float = 0.0
    observations: tuple[Observation, ...] = ()

    def after(self, elapsed_s: float, *, last_seen: float) -> Silence:
        """Return the silence at the next check; a heartbeat ends it."""
        if last_seen != self.last_seen:
            return Silence(last_seen=last_seen)
        return Silence(
            last_seen=last_seen, silent_s=self.silent_s + elapsed_s, observations=self.observations
        )

    def with_observation(self, observation: Observation) -> Silence:
        """Return the silence with one more observation; older ones are not needed."""
        return Silence(
            last_seen=self.last_seen, silent_s=self.silent_s,
            observations=(*self.observations, observation)[-LEAST:],
        )  # fmt: skip
