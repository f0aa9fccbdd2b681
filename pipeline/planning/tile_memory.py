"""How much memory a tile gets: of what a worker can spare, as little as hardly costs more work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from ..base.errors import PlanError
from ..base.text import size_text
from .tile_choice import SmallestTileError

MOST_BYTES: Final = 2**33
"""More is not taken of what can be spared: sweeps gain nothing by it, and tensors of more than
2^31 elements were never tried on a GPU."""
ASSUMED_BYTES: Final = 2**31
"""Memory of a tile where nothing is known of the workers."""
LEAST_BYTES: Final = 2**28
"""Tiles of less memory compute too much twice; they are tried only where no more can be spared."""
SPARED: Final = 0.75
"""The part of a worker's memory that a run plans to use. Dask pauses a worker at 0.8 of it."""
WORTH: Final = 1.04
"""Less memory is taken as long as the work stays below this part of the least work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRoom:
    """The memory of a worker process: what is known of it."""

    memory_bytes: int
    """Of the process: its limit, or its share of what is free on its machine."""
    device_bytes: int | None = None
    """Free memory of its GPU; None where it computes on the processor."""
    workers: int | None = None
    """How many there are, if that is known."""
    is_asked: bool = field(default=False, compare=False)
    """Whether workers stated it; else it follows from the description of their cluster."""

    @classmethod
    def rounded(
        cls, memory_bytes: int, device_bytes: int | None = None, *, workers: int | None = None
    ) -> WorkerRoom:
        """Return the room, rounded down to three bits: what else runs hardly changes a plan."""
        device = None if device_bytes is None else _rounded(device_bytes)
        return cls(memory_bytes=_rounded(memory_bytes), device_bytes=device, workers=workers)


class Priced(Protocol):
    """A plan for one size of the tile memory, as far as sizes are compared."""

    @property
    def work(self) -> float:
        """Operations that the volume takes as long as."""

    @property
    def tile_bytes(self) -> int:
        """Memory of tiles, what the allocator keeps of them included."""

    @property
    def worker_bytes(self) -> int:
        """Memory of a worker, tiles included."""


PricedPlan = TypeVar("PricedPlan", bound=Priced)


def choose_memory(
    plan_for: Callable[[int], PricedPlan], room: WorkerRoom
) -> tuple[PricedPlan, int]:
    """Return a plan that fits the room, and the memory of a tile that it was made for.

    plan_for: from the memory of a tile in bytes to a plan; it may raise SmallestTileError. Raises
    PlanError where all that can be spared is too little for a tile.
    Where no plan fits the worker, the smallest is returned: a run refuses it if not even a tile
    and the blocks that are held beside it fit.
    """
    sizes = list(_sizes(room))
    found, first = _largest_that_fits(plan_for, sizes, room)
    least_work = found.work
    worth, too_small = first, len(sizes)  # the work grows as the memory shrinks
    while too_small - worth > 1:
        middle = (worth + too_small) // 2
        try:
            plan = plan_for(sizes[middle])
        except SmallestTileError:
            too_small = middle
            continue
        if plan.work > WORTH * least_work:
            too_small = middle
        else:
            found, worth = plan, middle
    return found, sizes[worth]


def _largest_that_fits(
    plan_for: Callable[[int], PricedPlan], sizes: Sequence[int], room: WorkerRoom
) -> tuple[PricedPlan, int]:
    """Return the plan of the largest size that fits, or else of the smallest, and its place."""
    found: tuple[PricedPlan, int] | None = None
    for place, memory_bytes in enumerate(sizes):
        try:
            found = plan_for(memory_bytes), place
        except SmallestTileError as error:
            if found is not None:
                return found
            raise PlanError(
                f"a worker can spare {size_text(memory_bytes)} for a tile: {error.needs}; use "
                "fewer workers per machine, or a smaller network"
            ) from error
        if _fits(found[0], room):
            return found
    assert found is not None, "there is always a size to try"
    return found


def _rounded(size: int) -> int:
    below = max(0, size.bit_length() - 3)
    return size >> below << below


def _fits(plan: Priced, room: WorkerRoom) -> bool:
    on_host = plan.worker_bytes - (plan.tile_bytes if room.device_bytes is not None else 0)
    return on_host <= SPARED * room.memory_bytes


def _sizes(room: WorkerRoom) -> Iterator[int]:
    """Yield what a tile may take: 1 or 1.5 times a power of two, the largest spared size first."""
    spared = max(2, min(MOST_BYTES, int(SPARED * _memory_of_tiles(room))))
    power = 1 << spared.bit_length() - 1
    sizes = (size for n in range(power.bit_length()) for size in (power * 3 // 2 >> n, power >> n))
    fitting = (size for size in sizes if size <= spared)
    yield next(fitting)
    yield from (size for size in fitting if size >= LEAST_BYTES)


def _memory_of_tiles(room: WorkerRoom) -> int:
    return room.memory_bytes if room.device_bytes is None else room.device_bytes


def spared_text(memory_bytes: int, room: WorkerRoom | None) -> str:
    """Return how large the memory of a tile is, and why."""
    size = size_text(memory_bytes)
    if room is None:
        return f"{size}, assumed; a run asks its workers"
    of = "GPU" if room.device_bytes is not None else "worker"
    spared = size_text(int(SPARED * _memory_of_tiles(room)))
    return f"{size}, of {spared} that a {of} can spare; more would hardly save work"
