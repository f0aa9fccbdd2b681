"""How long the ranks of a run wait, how often they may be lost, and how few may be left."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RankLimits:
    """Times in seconds, and counts."""

    collective_s: float = 300.0
    """For the other ranks, in a collective: a read of one may stall on a shared file system. Ranks
    whose connection ends, or whose worker is lost, are noticed at once."""
    start_s: float = 60.0
    """For the first workers to start."""
    device_s: float = 600.0
    """For other tasks to leave the workers."""
    rejoin_s: float = 60.0
    """For a lost worker to come back."""
    queue_s: float = 0.0
    """For any worker once all have left: jobs may wait in a queue."""
    join_s: float = 60.0
    """For ranks on workers that join; after that, the others resume without them."""
    leave_s: float = 30.0
    """For ranks that were asked to leave; then they are ended."""
    turn_s: float = 60.0
    """How long ranks have the devices, and then other tasks that wait for them."""
    max_losses: int = 8
    """So many losses in a row without progress end the run."""
    min_ranks: int = 1
    """Fewer workers than this end the run."""
